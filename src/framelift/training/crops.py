"""Training batches: random crops of stored clips and their degraded versions."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from framelift.degrade.degradation import Degradation
from framelift.degrade.recipe import load_recipe
from framelift.errors import InputError
from framelift.methods.base import Batch
from framelift.ops.resize import downscale
from framelift.training.data_settings import DataSettings
from framelift.training.store import Clip


class RandomCrops:
    """Random crops as a function of (seed, step), so that a resumed run sees the same ones."""

    def __init__(
        self, clips: Sequence[Clip], settings: DataSettings, batch: int, seed: int, frames: int = 1
    ) -> None:
        side = settings.crop + 2 * settings.margin
        self.clips = [
            c for c in clips if len(c.frames) >= frames and min(c.frames.shape[1:3]) >= side
        ]
        if not self.clips:
            raise InputError(
                f"No clip has {frames} frames of at least {side}×{side} pixels.",
                "Use larger clips or a smaller crop.",
            )
        self.cumulative = np.cumsum([c.weight for c in self.clips])
        self.settings, self.batch, self.seed, self.frames = settings, batch, seed, frames
        self.side = side
        self.degradation = None
        if settings.degradation != "none":
            self.degradation = Degradation(settings.degradation, settings.scale, seed)

    def __call__(self, step: int) -> Batch:
        """The batch of an optimizer step."""
        rng = np.random.default_rng([self.seed, step])
        crops = np.stack([self._crop(rng) for _ in range(self.batch)])
        hr = torch.from_numpy(crops).permute(0, 1, 4, 2, 3).float() / 255
        margin = self.settings.margin
        if self.degradation is None:
            hr = _inside(hr, margin)
            return Batch(hr, hr)
        hr, lr = degrade(hr, self.degradation, step)
        return Batch(_inside(hr, margin), _inside(lr, margin // self.settings.scale))

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        drawn = rng.random() * self.cumulative[-1]
        clip = self.clips[int(self.cumulative.searchsorted(drawn, side="right"))].frames
        t = rng.integers(len(clip) - self.frames + 1)
        y = rng.integers(clip.shape[1] - self.side + 1)
        x = rng.integers(clip.shape[2] - self.side + 1)
        crop = clip[t : t + self.frames, y : y + self.side, x : x + self.side]
        turns, flip = int(rng.integers(4)), rng.integers(2)
        if self.settings.augment == "full":
            crop = np.rot90(crop, turns, axes=(1, 2))
        if self.settings.augment != "none" and flip:
            crop = crop[:, :, ::-1]
        return np.ascontiguousarray(crop)


def _inside(x: Tensor, margin: int) -> Tensor:
    return x[..., margin : x.shape[-2] - margin, margin : x.shape[-1] - margin].contiguous()


def degrade(hr: Tensor, degradation: Degradation, step: int) -> tuple[Tensor, Tensor]:
    """Ground truth and low-resolution version of `hr` `[B, T, 3, H, W]` in [0, 1].

    Random parameters are drawn for each item, as a function of (seed, step, item).
    """
    if degradation.recipe == load_recipe("bi"):  # the same numbers, in one call
        return hr, (downscale(hr, degradation.scale).clamp(0, 1) * 255).round() / 255
    pairs = [degradation.pair(item, f"{step}/{n}") for n, item in enumerate(hr)]
    truth, lr = zip(*pairs, strict=True)
    return torch.stack(truth), torch.stack(lr)
