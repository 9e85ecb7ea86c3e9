"""Sharpening of the ground truth, as Real-ESRGAN and RealBasicVSR do before degrading it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from framelift.degrade.stages.base import Drawn, Frames, Sizes, Stage, check_sizes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Unsharp(Stage):
    """Sharpening of the ground truth, as Real-ESRGAN and RealBasicVSR do before degrading it."""

    weight: float = 0.5
    """Multiplier of the residual."""
    threshold: float = 10.0
    """Residual in 8-bit levels below which nothing changes."""
    size: int = 51
    """Kernel size, odd and at most 255; its σ follows OpenCV's rule."""

    def __post_init__(self) -> None:
        check_sizes("size", self.size)

    def apply(self, drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
        for index, x in frames:
            yield index, unsharp(x, self.weight, self.threshold, self.size)


def unsharp(
    x: "Tensor", weight: float = 0.5, threshold: float = 10.0, size: int = 51, sigma: float = 0.0
) -> "Tensor":
    """Sharpen ground truth `x` `[T, C, H, W]`.

    Adds `weight` times the residual to a Gaussian blur wherever that residual exceeds `threshold`
    (in 8-bit levels), through a mask blurred by the same Gaussian. `sigma` 0 means OpenCV's rule
    for the kernel size. The result lies in [0, 1]; no gradient through the mask.
    """
    from framelift.degrade.ops import gaussian_blur

    sigma = sigma or 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    residual = x - gaussian_blur(x, sigma, size // 2)
    mask = gaussian_blur((residual.detach().abs() * 255 > threshold).to(x), sigma, size // 2)
    sharp = (x + weight * residual).clamp(0, 1)
    return mask * sharp + (1 - mask) * x
