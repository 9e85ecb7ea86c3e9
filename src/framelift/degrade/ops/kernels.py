"""Blur kernels `[size, size]` (odd size), float64, that sum to one.

The family of Real-ESRGAN (Wang et al., 2021, section 3.1), which RealBasicVSR uses as well. With
p = (x, y) and Σ the covariance of deviations σx, σy turned by `angle`, q = pᵀ Σ⁻¹ p:
Gaussian exp(−q/2), generalised Gaussian exp(−q^β/2), plateau 1/(1 + q^β), and the ideal circular
low-pass filter ("sinc") ω J₁(ω r) / (2π r).
"""

import math

import torch
from torch import Tensor


def gaussian(size: int, sigma_x: float, sigma_y: float | None = None, angle: float = 0.0) -> Tensor:
    """Gaussian; isotropic unless `sigma_y` is given. Deviations in pixels, `angle` in radians."""
    return _normalised(torch.exp(-0.5 * _quadratic(size, sigma_x, sigma_y, angle)))


def generalized_gaussian(
    size: int, beta: float, sigma_x: float, sigma_y: float | None = None, angle: float = 0.0
) -> Tensor:
    """Gaussian whose exponent is raised to `beta`: above 1 flatter, below 1 more pointed."""
    return _normalised(torch.exp(-0.5 * _quadratic(size, sigma_x, sigma_y, angle) ** beta))


def plateau(
    size: int, beta: float, sigma_x: float, sigma_y: float | None = None, angle: float = 0.0
) -> Tensor:
    """Flat top with long tails."""
    return _normalised(1 / (1 + _quadratic(size, sigma_x, sigma_y, angle) ** beta))


def sinc(size: int, cutoff: float) -> Tensor:
    """Ideal low-pass filter that rings; `cutoff` ω in radians a pixel, at most π."""
    x, y = _grid(size)
    r = torch.sqrt(x * x + y * y)
    ring = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r.clamp_min(1e-9))
    return _normalised(torch.where(r > 0, ring, cutoff**2 / (4 * math.pi)))


def gaussian_row(sigma: float, radius: int) -> Tensor:
    """One-dimensional Gaussian `[2·radius + 1]`, float64, that sums to one."""
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    return _normalised(torch.exp(-0.5 * (x / sigma) ** 2)) if sigma > 0 else (x == 0).double()


def _quadratic(size: int, sigma_x: float, sigma_y: float | None, angle: float) -> Tensor:
    x, y = _grid(size)
    u = math.cos(angle) * x + math.sin(angle) * y
    v = math.cos(angle) * y - math.sin(angle) * x
    return (u / sigma_x) ** 2 + (v / (sigma_x if sigma_y is None else sigma_y)) ** 2


def _grid(size: int) -> tuple[Tensor, Tensor]:
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return axis[None, :].expand(size, size), axis[:, None].expand(size, size)


def _normalised(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum()
