"""Noise of sensors, drawn from a NumPy generator, so that seeds are exact."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from framelift.degrade.stages.base import (
    Drawn,
    Frames,
    Parameters,
    Range,
    Sizes,
    Stage,
    Weights,
    check_ranges,
    check_weights,
    choose,
)

if TYPE_CHECKING:
    from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Noise(Stage):
    """Sensor noise, new for every frame."""

    probability: float = 1.0
    """How many clips get noise at all."""
    kinds: Weights = field(default_factory=lambda: {"gaussian": 1.0})
    """Weights of gaussian and poisson."""
    sigma: Range = (1.0, 30.0)
    """Deviation of Gaussian noise in 8-bit levels."""
    sigma_step: float = 0.0
    """Drift of sigma by frame."""
    scale: Range = (0.05, 3.0)
    """Multiplier of Poisson noise."""
    scale_step: float = 0.0
    """Drift of the multiplier by frame."""
    gray: float = 0.4
    """How often the noise is the same in all three channels."""

    def __post_init__(self) -> None:
        check_weights(self, kinds=("gaussian", "poisson"))
        check_ranges(self, probability=(0, 1), sigma=(0, 255), scale=(0, 100), gray=(0, 1))

    def draw(self, rng: np.random.Generator, scale: int) -> Parameters:
        kind = choose(self.kinds, rng)
        limits = self.sigma if kind == "gaussian" else self.scale
        step = self.sigma_step if kind == "gaussian" else self.scale_step
        values = {
            "kind": kind,
            "level": float(rng.uniform(*limits)),
            "gray": bool(rng.random() < self.gray),
        }
        return values, {"level": (limits, step)}

    def apply(self, drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
        from framelift.degrade.ops import gaussian_noise

        values, rng = drawn.values, drawn.rng()
        for index, x in frames:
            if values["kind"] == "gaussian":
                yield index, gaussian_noise(x, values["level"] / 255, rng, values["gray"])
            else:
                yield index, poisson_noise(x, values["level"], rng, values["gray"])
            values = drawn.drifted(values, rng)


def poisson_noise(
    x: "Tensor", scale: float, rng: np.random.Generator, gray: bool = False
) -> "Tensor":
    """Add `scale` times the noise of counting photons to `x` `[T, 3, H, W]` in [0, 1].

    A white pixel counts 2^⌈log₂ n⌉ photons, n being how many of the 256 levels a frame uses, as
    in Real-ESRGAN. `gray` takes the noise of the luma for all channels. The result is not clamped.
    """
    import torch

    base = (x.detach().clamp(0, 1) * 255).round()
    if gray:
        luma = torch.tensor(_LUMA).to(x)[:, None, None]
        base = (base * luma).sum(1, keepdim=True).round()
    levels = base.to(torch.uint8).cpu().numpy()
    noise = np.empty(levels.shape, np.float32)
    for frame, out in zip(levels, noise, strict=True):
        photons = 2.0 ** np.ceil(np.log2(np.count_nonzero(np.bincount(frame.ravel()))))
        clean = frame / 255.0
        out[:] = rng.poisson(clean * photons) / photons - clean
    return x + scale * torch.from_numpy(noise).to(x)
