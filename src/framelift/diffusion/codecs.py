"""What every latent codec can do, whatever it is made of.

A codec maps frames to latents and back. Some look at the low-resolution frame as well: the block
transform codes what bicubic lacks, guided decoders restore detail from it. All of them therefore
take it, and those that have no use for it ignore it.
"""

from typing import Any, Protocol, cast, runtime_checkable

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor


@runtime_checkable
class LatentCodec(Protocol):
    """Frames `[T, 3, H, W]` in [-1, 1] ↔ latents `[T, c, H/f, W/f]` of about unit variance."""

    @property
    def factor(self) -> int:
        """Spatial factor f between frames and latents."""
        ...

    @property
    def latent_channels(self) -> int:
        """Number of latent channels c."""
        ...

    @property
    def condition_channels(self) -> int:
        """Number of channels of `condition`."""
        ...

    def condition(self, lr: Tensor) -> Tensor:
        """What the denoiser sees beside the latents `[T, k, h, w]`: the LR frame, and perhaps more.

        `lr` `[T, 3, h, w]` is the low-resolution clip in [-1, 1].
        """
        ...

    def guidance(self, picture: Tensor, lr: Tensor) -> Tensor:
        """How a video method shows the denoiser a neighbour's picture `[T, 3, H, W]`.

        `picture` is aligned with the frame whose low-resolution version is `lr`.
        """
        ...

    def to_latents(self, hr: Tensor, lr: Tensor) -> Tensor:
        """Encode `hr`, whose low-resolution version is `lr`."""
        ...

    def to_frames(self, latents: Tensor, lr: Tensor) -> Tensor:
        """Decode latents, not clamped."""
        ...


class KLCodec:
    """A VAE of diffusers' interface as a `LatentCodec`; it says how latents are shifted, scaled."""

    def __init__(self, vae: AutoencoderKL) -> None:
        self.vae = vae

    @property
    def factor(self) -> int:
        if "factor" in self.vae.config:
            return self.vae.config["factor"]
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def latent_channels(self) -> int:
        return self.vae.config["latent_channels"]

    @property
    def condition_channels(self) -> int:
        return 3

    def condition(self, lr: Tensor) -> Tensor:
        return lr

    def guidance(self, picture: Tensor, lr: Tensor) -> Tensor:
        return picture

    @property
    def shift(self) -> float:
        return self.vae.config["shift_factor"] or 0.0

    def posterior(self, hr: Tensor) -> DiagonalGaussianDistribution:
        """The distribution of the autoencoder's own latents for frames in [-1, 1]."""
        (posterior,) = self.vae.encode(cast(Any, hr.to(self.vae.dtype)), return_dict=False)
        return cast(DiagonalGaussianDistribution, posterior)

    def normalise(self, latents: Tensor) -> Tensor:
        """The autoencoder's own latents, brought to about zero mean and unit variance."""
        return (latents - self.shift) * self.vae.config["scaling_factor"]

    def to_latents(self, hr: Tensor, lr: Tensor) -> Tensor:
        return self.normalise(self.posterior(hr).sample())

    def to_frames(self, latents: Tensor, lr: Tensor) -> Tensor:
        latents = latents.to(self.vae.dtype) / self.vae.config["scaling_factor"] + self.shift
        (frames,) = self.vae.decode(cast(Any, latents), return_dict=False)
        return frames if frames.dtype == torch.float64 else frames.float()


def as_codec(vae: torch.nn.Module) -> LatentCodec:
    """View a pipeline's `vae` component as a codec."""
    return vae if isinstance(vae, LatentCodec) else KLCodec(cast(AutoencoderKL, vae))
