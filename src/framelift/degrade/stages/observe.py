"""The observation model of inverse problems: Y = M(L(X ∗ h)) + e (VDM-VSR, section III)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from framelift.degrade.stages.base import Drawn, Frames, Sizes, Stage, check_ranges

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Observe(Stage):
    """The observation model of VDM-VSR: blur, stride, frame mask, sensor noise."""

    sigma_h: float = 0.0
    """Deviation of the Gaussian blur in high-resolution pixels, 0 for none."""
    decimation: Literal["stride", "bicubic"] = "stride"
    """How pixels are dropped."""
    noise: float = 0.0
    """Deviation of the sensor noise for values in [-1, 1]."""
    keep: tuple[int, ...] = ()
    """Indices of the frames that are seen (default: all)."""

    def __post_init__(self) -> None:
        check_ranges(self, sigma_h=(0, 1000), noise=(0, 2))

    def apply(self, drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
        rng = drawn.rng()
        operator = Observation(sizes.scale, self.sigma_h, decimation=self.decimation)
        for index, x in frames:
            if not self.keep or index in self.keep:
                yield index, operator.observe(x, self.noise / 2, rng)  # [-1, 1] is 2 wide


@dataclass(frozen=True)
class Observation:
    """H = M ∘ L ∘ (∗ h): linear, and differentiable in the frames at any dtype.

    `sigma_h` is the deviation of the Gaussian blur h in HR pixels, 0 for no blur. The paper leaves
    its support and border open: here the radius is ⌈3σ⌉ and frames are reflected. L is plain
    striding by `scale`, since without blur the paper calls its frames "highly aliased";
    "bicubic" is the antialiased choice of the authors' earlier code. `keep` `[T]` says which
    frames the mask M lets through (None: all).
    """

    scale: int
    sigma_h: float = 0.0
    keep: tuple[bool, ...] | None = None
    decimation: Literal["stride", "bicubic"] = "stride"

    def forward(self, x: "Tensor") -> "Tensor":
        """HR frames `[T, C, H, W]` → `[T', C, H/scale, W/scale]`, T' of them kept; no noise."""
        import torch

        from framelift.degrade.ops import gaussian_blur, stride
        from framelift.ops.resize import resize

        if self.keep is not None:
            assert len(self.keep) == len(x), (len(self.keep), len(x))
            x = x[torch.tensor(self.keep, device=x.device)]  # H acts on each frame by itself
        x = gaussian_blur(x, self.sigma_h, math.ceil(3 * self.sigma_h))
        if self.decimation == "stride":
            return stride(x, self.scale)
        return resize(x, (x.shape[-2] // self.scale, x.shape[-1] // self.scale))

    __call__ = forward

    def observe(self, x: "Tensor", sigma: float, rng: np.random.Generator) -> "Tensor":
        """`forward` with sensor noise e of deviation `sigma`, in the unit of `x`."""
        from framelift.degrade.ops import gaussian_noise

        return gaussian_noise(self.forward(x), sigma, rng)

    @staticmethod
    def mask(frames: int, keep: Sequence[int]) -> tuple[bool, ...]:
        """The mask `[frames]` that keeps the frames with the given indices."""
        return tuple(index in keep for index in range(frames))
