"""Segment-wise reconstruction: every segment is coded by the causal VAE by itself.

A causal VAE codes a clip's first frame alone, and each latent after it stands for `temporal_factor`
frames. Where the camera's motion changes inside such a group, it is coded badly; so segments of
even motion are coded apart, each completed to 4k+1 frames by its last one.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from framelift.diffusion.codecs import LatentSpace, at_least_float32
from framelift.diffusion.draw import normal


def wan_latent_space(vae: AutoencoderKLWan) -> LatentSpace:
    """What the latents of a causal VAE of Wan look like."""
    config: Any = vae.config
    return LatentSpace(
        channels=config["z_dim"],
        factor=config["scale_factor_spatial"],
        temporal_factor=config["scale_factor_temporal"],
    )


class SegmentCodec:
    """Clips `[B, T, 3, H, W]` in [-1, 1] ↔ latents `[B, c, F, H/f, W/f]` of about unit variance.

    `segments` cover the T frames in order. Latents of all segments lie one after the other in time.
    """

    def __init__(self, vae: AutoencoderKLWan, segments: Sequence[range]) -> None:
        self.vae: Any = vae
        self.space = wan_latent_space(vae)
        self.segments = list(segments)
        self.counts = [self._count(len(s)) for s in self.segments]
        """Latents of every segment."""

    @cached_property
    def anchors(self) -> list[int]:
        """The number of each segment's first latent, which codes one frame alone."""
        return [sum(self.counts[:i]) for i in range(len(self.counts))]

    @cached_property
    def frame_of(self) -> list[int]:
        """The first frame that each latent stands for."""
        step = self.space.temporal_factor
        return [
            s.start + (0 if j == 0 else 1 + step * (j - 1))
            for s, count in zip(self.segments, self.counts, strict=True)
            for j in range(count)
        ]

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The posterior's mean, or a sample of it if there is a generator."""
        found = [self.posterior(frames[:, s.start : s.stop]) for s in self.segments]
        if generator is None:
            latents = torch.cat([p.mean for p in found], dim=2)
        else:
            latents = torch.cat(
                [p.mean + p.std * normal(p.mean.shape, p.mean.device, generator) for p in found],
                dim=2,
            )
        return self.normalise(at_least_float32(latents))

    def decode(self, latents: Tensor) -> Tensor:
        """Frames; what completed the segments is cut off again."""
        shift, scale = self._statistics(latents)
        z = (latents * scale + shift).to(self.vae.dtype).split(self.counts, dim=2)
        parts = []
        for part, of_segment in zip(z, self.segments, strict=True):
            (frames,) = self.vae.decode(part.contiguous(), return_dict=False)
            parts.append(at_least_float32(frames).transpose(1, 2)[:, : len(of_segment)])
        return torch.cat(parts, dim=1)

    def posterior(self, frames: Tensor) -> DiagonalGaussianDistribution:
        """The distribution of the VAE's own latents of one segment `[B, T, 3, H, W]`."""
        x = complete(frames, self.space.temporal_factor).transpose(1, 2)
        (posterior,) = self.vae.encode(x.to(self.vae.dtype), return_dict=False)
        return posterior

    def normalise(self, latents: Tensor) -> Tensor:
        """The VAE's own latents, brought to about zero mean and unit variance."""
        shift, scale = self._statistics(latents)
        return (latents - shift) / scale

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, std = (
            torch.tensor(config[name], dtype=like.dtype, device=like.device)[:, None, None, None]
            for name in ("latents_mean", "latents_std")
        )
        return mean, std

    def _count(self, frames: int) -> int:
        step = self.space.temporal_factor
        return 1 + -(-(frames - 1) // step)


def complete(frames: Tensor, step: int) -> Tensor:
    """Repeat the last of `frames` `[B, T, 3, H, W]` until there are k·step + 1."""
    missing = -(frames.shape[1] - 1) % step
    if not missing:
        return frames
    return torch.cat([frames, frames[:, -1:].expand(-1, missing, -1, -1, -1)], dim=1)
