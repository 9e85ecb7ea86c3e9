"""Blur with a random kernel of the family of Real-ESRGAN (Wang et al., 2021, section 3.1).

RealBasicVSR uses it as well. With p = (x, y) and Σ the covariance of deviations σx, σy turned by
`angle`, q = pᵀ Σ⁻¹ p: Gaussian exp(−q/2), generalised Gaussian exp(−q^β/2), plateau 1/(1 + q^β),
and the ideal circular low-pass filter ("sinc") ω J₁(ω r) / (2π r). Kernels are `[size, size]`
(odd size), float64, and sum to one.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

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
    check_sizes,
    check_weights,
    choose,
)

if TYPE_CHECKING:
    from torch import Tensor

KERNELS = (
    "iso",
    "aniso",
    "generalized_iso",
    "generalized_aniso",
    "plateau_iso",
    "plateau_aniso",
    "sinc",
)


@dataclass(frozen=True)
class Blur(Stage):
    """Convolution with a random kernel, reflected at the borders."""

    probability: float = 1.0
    """How many clips are blurred at all."""
    kernels: Weights = field(default_factory=lambda: {"iso": 1.0})
    """Weights of iso, aniso, generalized_iso, generalized_aniso, plateau_iso, plateau_aniso and
    sinc."""
    sizes: tuple[int, ...] = (21,)
    """Kernel sizes to choose from, odd and at most 255."""
    sigma: Range = (0.2, 3.0)
    """Standard deviation along each axis, in `sigma_unit`."""
    sigma_step: float = 0.0
    """Drift of sigma by frame."""
    sigma_unit: Literal["pixel", "scale"] = "pixel"
    """Unit of sigma: pixels, or multiples of the scale (BD: 0.4 × scale)."""
    angle: Range = (-math.pi, math.pi)
    """Rotation of anisotropic kernels in radians."""
    angle_step: float = 0.0
    """Drift of the angle by frame."""
    beta_gaussian: Range = (0.5, 4.0)
    """Shape of generalised Gaussians; half of the draws fall below 1, half above."""
    beta_gaussian_step: float = 0.0
    """Drift of that shape by frame."""
    beta_plateau: Range = (1.0, 2.0)
    """Shape of plateau kernels; half of the draws fall below 1 (or are 1), half above."""
    beta_plateau_step: float = 0.0
    """Drift of that shape by frame."""
    cutoff: Range | None = None
    """Cutoff of sinc kernels in radians a pixel (default: π/3 to π for sizes below 13, else π/5
    to π)."""
    cutoff_step: float = 0.0
    """Drift of the cutoff by frame."""

    def __post_init__(self) -> None:
        check_weights(self, kernels=KERNELS)
        check_ranges(self, probability=(0, 1), sigma=(1e-3, 100), cutoff=(1e-3, math.pi))
        check_ranges(self, beta_gaussian=(1e-3, 100), beta_plateau=(1e-3, 100), angle=None)
        check_sizes("sizes", *self.sizes)

    def draw(self, rng: np.random.Generator, scale: int) -> Parameters:
        kernel, size = choose(self.kernels, rng), int(rng.choice(self.sizes))
        values: dict[str, Any] = {"kernel": kernel, "size": size}
        drift: dict[str, tuple[Range, float]] = {}

        def add(name: str, limits: Range, step: float, value: float) -> None:
            values[name], drift[name] = value, (limits, step)

        if kernel == "sinc":
            cutoff = self.cutoff or (math.pi / (3 if size < 13 else 5), math.pi)
            add("cutoff", cutoff, self.cutoff_step, float(rng.uniform(*cutoff)))
            return values, drift
        unit = scale if self.sigma_unit == "scale" else 1
        sigma = self.sigma[0] * unit, self.sigma[1] * unit
        add("sigma_x", sigma, self.sigma_step, float(rng.uniform(*sigma)))
        if kernel.endswith("aniso"):
            add("sigma_y", sigma, self.sigma_step, float(rng.uniform(*sigma)))
            add("angle", self.angle, self.angle_step, float(rng.uniform(*self.angle)))
        if kernel.startswith("generalized"):
            shape = _shape(self.beta_gaussian, rng)
            add("beta", self.beta_gaussian, self.beta_gaussian_step, shape)
        if kernel.startswith("plateau"):
            shape = _shape(self.beta_plateau, rng)
            add("beta", self.beta_plateau, self.beta_plateau_step, shape)
        return values, drift

    def apply(self, drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
        from framelift.degrade.ops import blur

        kernel = kernel_of(drawn.values)
        for index, x, values in drawn.drifting(frames):
            kernel = kernel_of(values) if drawn.drift else kernel
            yield index, blur(x, kernel)


def _shape(limits: Range, rng: np.random.Generator) -> float:
    """β as Real-ESRGAN draws it: below 1 as often as above."""
    low, high = limits
    below = rng.random() < 0.5
    if not low <= 1 <= high:
        return float(rng.uniform(low, high))
    return float(rng.uniform(low, 1) if below else rng.uniform(1, high))


def kernel_of(values: dict[str, Any]) -> "Tensor":
    """The kernel of drawn parameters."""
    size, sigmas = values["size"], (values.get("sigma_x", 0), values.get("sigma_y"))
    match values["kernel"].split("_")[0]:
        case "sinc":
            return sinc(size, values["cutoff"])
        case "generalized":
            return generalized_gaussian(size, values["beta"], *sigmas, values.get("angle", 0.0))
        case "plateau":
            return plateau(size, values["beta"], *sigmas, values.get("angle", 0.0))
    return gaussian(size, *sigmas, values.get("angle", 0.0))


def gaussian(
    size: int, sigma_x: float, sigma_y: float | None = None, angle: float = 0.0
) -> "Tensor":
    """Gaussian; isotropic unless `sigma_y` is given. Deviations in pixels, `angle` in radians."""
    return _normalised((-0.5 * _quadratic(size, sigma_x, sigma_y, angle)).exp())


def generalized_gaussian(
    size: int, beta: float, sigma_x: float, sigma_y: float | None = None, angle: float = 0.0
) -> "Tensor":
    """Gaussian whose exponent is raised to `beta`: above 1 flatter, below 1 more pointed."""
    return _normalised((-0.5 * _quadratic(size, sigma_x, sigma_y, angle) ** beta).exp())


def plateau(
    size: int, beta: float, sigma_x: float, sigma_y: float | None = None, angle: float = 0.0
) -> "Tensor":
    """Flat top with long tails."""
    return _normalised(1 / (1 + _quadratic(size, sigma_x, sigma_y, angle) ** beta))


def sinc(size: int, cutoff: float) -> "Tensor":
    """Ideal low-pass filter that rings; `cutoff` ω in radians a pixel, at most π."""
    import torch

    x, y = _grid(size)
    r = torch.sqrt(x * x + y * y)
    ring = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r.clamp_min(1e-9))
    return _normalised(torch.where(r > 0, ring, cutoff**2 / (4 * math.pi)))


def _quadratic(size: int, sigma_x: float, sigma_y: float | None, angle: float) -> "Tensor":
    x, y = _grid(size)
    u = math.cos(angle) * x + math.sin(angle) * y
    v = math.cos(angle) * y - math.sin(angle) * x
    return (u / sigma_x) ** 2 + (v / (sigma_x if sigma_y is None else sigma_y)) ** 2


def _grid(size: int) -> "tuple[Tensor, Tensor]":
    import torch

    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return axis[None, :].expand(size, size), axis[:, None].expand(size, size)


def _normalised(kernel: "Tensor") -> "Tensor":
    return kernel / kernel.sum()
