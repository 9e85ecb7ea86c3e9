"""Codecs: frames ↔ latents, bound to the low-resolution frames that they belong to.

Some codecs look at the low-resolution frames as well: the block transform codes what bicubic
lacks, guided decoders restore detail from features of them. So a codec is bound first
(`pipeline.codec(lr)`), and then only encodes and decodes. A VAE that makes use of the frames
provides `bind(lr)` and `latent_space`; any other is a `KLCodec`, which ignores them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from framelift.diffusion.draw import normal
from framelift.ops.resize import upscale


@dataclass(frozen=True)
class LatentSpace:
    """What latents look like; known before there are frames."""

    channels: int
    factor: int
    """Side of the square of pixels that a latent stands for."""
    condition_channels: int = 3
    """Channels of `Codec.condition`."""
    temporal_factor: int = 1
    """Frames to a latent; causal codecs give the first frame a latent of its own."""

    def size(self, height: int, width: int) -> tuple[int, int, int]:
        """(c, h, w) of the latents of a frame of these sides in pixels."""
        return self.channels, height // self.factor, width // self.factor

    def count(self, frames: int) -> int:
        """Latents in time of so many frames."""
        return 1 + (frames - 1) // self.temporal_factor


class Codec(Protocol):
    """Frames `[T, 3, H, W]` in [-1, 1] ↔ latents `[T, c, H/f, W/f]` of about unit variance.

    For those frames alone whose low-resolution versions it was bound to.
    """

    @property
    def lr(self) -> Tensor:
        """The low-resolution frames `[T, 3, h, w]` in [-1, 1]."""
        ...

    def encode(self, hr: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents of `hr`; with a generator, those of a probabilistic encoder are drawn."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Frames, not clamped."""
        ...


class UpscalerCodec(Codec, Protocol):
    """What image upscalers, which denoise beside the LR frames, need beyond."""

    @property
    def enlarged(self) -> Tensor:
        """The bicubic enlargement `[T, 3, H, W]`."""
        ...

    def condition(self) -> Tensor:
        """What the denoiser gets beside the latents `[T, k, h, w]`: the LR frames, perhaps more."""
        ...

    def guidance(self, picture: Tensor) -> Tensor:
        """How a video method shows the denoiser a picture `[T, 3, H, W]` of these frames."""
        ...

    def from_guidance(self, guidance: Tensor) -> Tensor:
        """The picture that `guidance` shows."""
        ...


class KLCodec:
    """A VAE of diffusers' interface; its configuration says how latents are shifted and scaled."""

    def __init__(self, vae: nn.Module, lr: Tensor | None = None) -> None:
        self.vae: Any = vae
        self._lr = lr

    @property
    def lr(self) -> Tensor:
        assert self._lr is not None, "this codec was bound to no frames"
        return self._lr

    @cached_property
    def enlarged(self) -> Tensor:
        """See `UpscalerCodec`."""
        return upscale(self.lr.float(), latent_space(self.vae).factor)

    def condition(self) -> Tensor:
        """The LR frames."""
        return self.lr

    def guidance(self, picture: Tensor) -> Tensor:
        """The picture itself."""
        return picture

    def from_guidance(self, guidance: Tensor) -> Tensor:
        """The guidance itself."""
        return guidance.float()

    def encode(self, hr: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The posterior's mean, or a sample of it if there is a generator."""
        posterior = self.posterior(hr)
        latents = posterior.mean
        if generator is not None:
            latents = latents + posterior.std * normal(latents.shape, latents.device, generator)
        return self.normalise(at_least_float32(latents))

    def decode(self, latents: Tensor) -> Tensor:
        """See `Codec`."""
        latents = latents.to(self.vae.dtype) / self.vae.config["scaling_factor"] + self._shift
        (frames,) = self.vae.decode(latents, return_dict=False)
        return at_least_float32(frames)

    def posterior(self, hr: Tensor) -> DiagonalGaussianDistribution:
        """The distribution of the autoencoder's own latents for frames in [-1, 1]."""
        (posterior,) = self.vae.encode(hr.to(self.vae.dtype), return_dict=False)
        return cast(DiagonalGaussianDistribution, posterior)

    def normalise(self, latents: Tensor) -> Tensor:
        """The autoencoder's own latents, brought to about zero mean and unit variance."""
        return (latents - self._shift) * self.vae.config["scaling_factor"]

    @property
    def _shift(self) -> float:
        return self.vae.config.get("shift_factor") or 0.0


def bind(vae: Any, lr: Tensor) -> UpscalerCodec:
    """The codec that a pipeline's `vae` is for LR frames `[T, 3, h, w]` in [-1, 1]."""
    codec: Any = vae.bind(lr) if hasattr(vae, "bind") else KLCodec(vae, lr)
    return codec


def latent_space(vae: Any) -> LatentSpace:
    """What the latents of a pipeline's `vae` look like."""
    if hasattr(vae, "latent_space"):
        return vae.latent_space
    config = vae.config
    blocks: Sequence[int] = config.get("block_out_channels", ())
    factor = config["factor"] if "factor" in config else 2 ** (len(blocks) - 1)
    return LatentSpace(channels=config["latent_channels"], factor=factor)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or as it is in float64."""
    return x if x.dtype == torch.float64 else x.float()
