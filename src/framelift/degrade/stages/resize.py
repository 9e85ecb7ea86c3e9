"""Change of size by a random factor, mostly without antialiasing, as careless software does it."""

from dataclasses import dataclass, field
from typing import Literal

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


@dataclass(frozen=True)
class Resize(Stage):
    """Change of size by a random factor."""

    directions: Weights = field(default_factory=lambda: {"keep": 1.0})
    """Weights of up (factor from 1 to the high end), down (from the low end to 1) and keep."""
    factor: Range = (1.0, 1.0)
    """Range of the factor."""
    factor_step: float = 0.0
    """Drift of the factor by frame."""
    relative_to: Literal["current", "output"] = "current"
    """What the factor multiplies: the size at this stage, or that of the output."""
    filters: Weights = field(default_factory=lambda: {"bicubic": 1.0})
    """Weights of area, bilinear, bicubic (none antialiased) and matlab (antialiased bicubic)."""
    even: bool = False
    """Round both sides down to even numbers."""

    def __post_init__(self) -> None:
        check_weights(
            self,
            directions=("up", "down", "keep"),
            filters=("area", "bilinear", "bicubic", "matlab"),
        )
        check_ranges(self, factor=(1e-3, 16))

    def draw(self, rng: np.random.Generator, scale: int) -> Parameters:
        low, high = self.factor
        direction = choose(self.directions, rng)
        ends = {"up": (1.0, max(1.0, high)), "down": (min(1.0, low), 1.0), "keep": (1.0, 1.0)}
        factor = float(rng.uniform(*ends[direction]))
        limits = min(low, 1.0), max(high, 1.0)
        values = {"factor": factor, "filter": choose(self.filters, rng)}
        return values, {"factor": (limits, self.factor_step)}

    def apply(self, drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
        from framelift.degrade.ops import rescale

        for index, x, values in drawn.drifting(frames):
            base = sizes.low if self.relative_to == "output" else tuple(x.shape[-2:])
            factor, grid = values["factor"], 2 if self.even else 1
            height, width = (max(grid, int(side * factor) // grid * grid) for side in base)
            yield index, rescale(x, (height, width), values["filter"])
