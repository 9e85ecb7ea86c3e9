"""A VAE whose decoder sees the LR frames: spatial feature transform (Upscale-A-Video's decoder).

Features of the LR frames scale and shift those of the latents, out = f + w·(scale·f + shift), and
convolutions over 3×3×3 pixels end the decoder's residual blocks. Scale, shift and these are zero
at initialisation: the decoder is then the plain one, as it is with w = 0 for the transform alone.
Names of parameters are those of the released weights.
"""

import inspect
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import Decoder, DiagonalGaussianDistribution
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from framelift.diffusion.codecs import KLCodec, at_least_float32
from framelift.methods.pseudo_text.temporal import (
    set_frames,
    share_statistics,
    time_conv,
    zeroed,
)
from framelift.ops.resize import upscale

SCALE = 4


class ClipResnetBlock(ResnetBlock2D):
    """diffusers' residual block, and behind it x + conv(silu(norm(x))) over time and space."""

    def __init__(self, in_channels: int, out_channels: int, **options: Any) -> None:
        options = {"temb_channels": None, **options}
        super().__init__(in_channels=in_channels, out_channels=out_channels, **options)
        norm: Any = self.norm2
        self.norm_3d = nn.GroupNorm(norm.num_groups, out_channels, norm.eps)
        self.conv_3d = zeroed(time_conv(out_channels, (3, 3, 3)))

    def forward(self, input_tensor: Tensor, temb: Any = None, *_: Any) -> Tensor:
        x = super().forward(input_tensor, temb)
        return x + self.conv_3d(F.silu(self.norm_3d(x)))


class FeatureTransform(nn.Module):
    """f + w·(scale·f + shift), scale and shift made of features of the LR frames beside f."""

    def __init__(self, condition: int, channels: int, groups: int) -> None:
        super().__init__()
        options: Any = {"temb_channels": None, "groups": groups}
        self.shared = nn.Sequential(
            _Alone(in_channels=condition + channels, out_channels=channels, **options),
            _Alone(in_channels=channels, out_channels=channels, **options),
        )
        self.scale = zeroed(nn.Conv2d(channels, channels, 3, padding=1))
        self.shift = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, condition: Tensor, f: Tensor, weight: float) -> Tensor:
        both = self.shared(torch.cat([condition, f], dim=1))
        return f + weight * (f * self.scale(both) + self.shift(both))


class _Alone(ResnetBlock2D):
    """A residual block without a timestep, as a link of a `Sequential`."""

    def forward(self, input_tensor: Tensor, temb: Any = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(input_tensor, temb)


class GuidedDecoder(Decoder):
    """diffusers' decoder with the transform behind its first convolution.

    `temporal` says where convolutions see 3×3×3 pixels: in all residual blocks but the
    transform's, in those that look at the LR frames, or nowhere.
    """

    def __init__(
        self,
        condition_channels: int,
        temporal: Literal["all", "condition", "none"],
        condition_blocks: int,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        groups, width = options["norm_num_groups"], options["block_out_channels"][-1]
        kind = _Alone if temporal == "none" else ClipResnetBlock
        own: Any = {"temb_channels": None, "groups": groups}
        first = kind(
            in_channels=3,
            out_channels=condition_channels,
            **{**own, "groups": 3, "groups_out": groups},
        )
        rest = [
            kind(in_channels=condition_channels, out_channels=condition_channels, **own)
            for _ in range(condition_blocks - 1)
        ]
        self.condition_in = nn.Sequential(first, *rest)
        self.condition_fuse = FeatureTransform(condition_channels, width, groups)
        if temporal == "all":
            for block in (self.mid_block, *self.up_blocks):
                resnets: Any = block.resnets  # pyright: ignore[reportOptionalMemberAccess]
                block.resnets = nn.ModuleList(  # pyright: ignore[reportOptionalMemberAccess]
                    ClipResnetBlock(r.in_channels, r.out_channels, groups=groups) for r in resnets
                )

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sample: Tensor, lr: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        """Pictures of latents `[N, c, h, w]`, transformed if there are `lr` `[N, 3, h, w]`."""
        x = self.conv_in(sample)
        if lr is not None and weight:
            x = self.condition_fuse(self.condition_in(lr), x, weight)
        x = self.mid_block(x)  # pyright: ignore[reportOptionalCall]
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(self.conv_act(self.conv_norm_out(x)))


class SFTAutoencoderKL(AutoencoderKL, ModelMixin):
    """diffusers' VAE with that decoder; the options of the VAE are `AutoencoderKL`'s.

    Without `condition_channels` the decoder is the plain one. With `residual` the guided decoder
    adds to the bicubic enlargement of the LR frames instead of making the whole picture.
    `statistics` as in `InflatedUNet`.
    """

    ignore_for_config = ["image"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        condition_channels: int = 128,
        condition_blocks: int = 2,
        temporal: Literal["all", "condition", "none"] = "all",
        residual: bool = False,
        statistics: Literal["frame", "clip"] = "frame",
        **image: Any,
    ) -> None:
        super().__init__(**image)
        of = self.config
        if condition_channels:
            self.decoder = self._guided_decoder(of)
        if statistics == "clip":
            share_statistics(self)

    @staticmethod
    def _guided_decoder(of: Any) -> GuidedDecoder:
        return GuidedDecoder(
            of["condition_channels"],
            of["temporal"],
            of["condition_blocks"],
            in_channels=of["latent_channels"],
            out_channels=of["out_channels"],
            up_block_types=of["up_block_types"],
            block_out_channels=of["block_out_channels"],
            layers_per_block=of["layers_per_block"],
            norm_num_groups=of["norm_num_groups"],
            act_fn=of["act_fn"],
            mid_block_add_attention=of["mid_block_add_attention"],
        )

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        """Arguments that a configuration may hold: those of the plain VAE as well."""
        kinds = (input_class, AutoencoderKL)
        return {name for kind in kinds for name in inspect.signature(kind.__init__).parameters}

    def decode_guided(self, latents: Tensor, lr: Tensor, weight: float = 1.0) -> Tensor:
        """Frames `[T, 3, H, W]` in [-1, 1] of latents as the encoder makes them `[T, c, h, w]`.

        `lr` `[T, 3, h, w]` in [-1, 1] has the latents' size.
        """
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        if not self.config["condition_channels"]:
            return self.decoder(latents)
        made = self.decoder(latents, lr, weight)
        if not self.config["residual"]:
            return made
        return made + upscale(lr, made.shape[-1] // lr.shape[-1])


class ClipCodec(KLCodec):
    """A VAE on clips, `chunk` frames decoded together; a guided one sees the LR frames, with w."""

    def __init__(self, vae: nn.Module, lr: Tensor, weight: float = 1.0, chunk: int = 3) -> None:
        super().__init__(vae, lr)
        self.weight, self.chunk = weight, chunk

    @cached_property
    def enlarged(self) -> Tensor:
        """See `KLCodec`; of the output's size also where latents are smaller than LR frames."""
        return upscale(self.lr.float(), SCALE)

    def posterior(self, hr: Tensor) -> DiagonalGaussianDistribution:
        """See `KLCodec`; `chunk` frames are encoded together."""
        made = []
        for part in hr.split(self.chunk):
            set_frames(self.vae, len(part))
            made.append(super().posterior(part).parameters)
        return DiagonalGaussianDistribution(torch.cat(made))

    def decode(self, latents: Tensor) -> Tensor:
        """Frames `[T, 3, H, W]`, not clamped; always in the VAE's precision."""
        parts = zip(latents.split(self.chunk), self.lr.split(self.chunk), strict=True)
        return torch.cat([self._decode(z, lr) for z, lr in parts])

    def _decode(self, latents: Tensor, lr: Tensor) -> Tensor:
        set_frames(self.vae, len(latents))
        if not hasattr(self.vae, "decode_guided"):
            return super().decode(latents)
        z = latents.to(self.vae.dtype) / self.vae.config["scaling_factor"] + self._shift
        return at_least_float32(self.vae.decode_guided(z, lr.to(self.vae.dtype), self.weight))
