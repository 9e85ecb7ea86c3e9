"""Blur, decimate and sharpen. Borders are reflected without repeating the edge pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from framelift.degrade.ops.kernels import gaussian_row


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every channel of `x` `[T, C, H, W]` with one `kernel` `[k, k]`, k odd."""
    channels, size = x.shape[1], kernel.shape[-1]
    weight = kernel.to(x).expand(channels, 1, size, size).contiguous()
    return F.conv2d(_reflected(x, size // 2, size // 2), weight, groups=channels)


def gaussian_blur(x: Tensor, sigma: float, radius: int) -> Tensor:
    """Separable Gaussian blur of `x` `[T, C, H, W]`; `sigma` 0 leaves it as it is."""
    if sigma == 0:
        return x
    channels = x.shape[1]
    row = gaussian_row(sigma, radius).to(x).expand(channels, 1, 1, -1).contiguous()
    x = F.conv2d(_reflected(x, 0, radius), row, groups=channels)
    return F.conv2d(_reflected(x, radius, 0), row.mT, groups=channels)


def stride(x: Tensor, factor: int) -> Tensor:
    """Keep every `factor`-th pixel of `[..., H, W]`, beginning with the first."""
    return x[..., ::factor, ::factor]


def bd(x: Tensor, factor: int = 4) -> Tensor:
    """The "BD" degradation of `x` `[T, C, H, W]`: 13×13 Gaussian, σ = 0.4·factor, plain stride.

    Equal to BasicSR's and DUF's formula, which samples at 0, factor, 2·factor … of reflected
    frames (for factors below 4 those cut the Gaussian off at 4σ, a difference of 1e-5).
    """
    return stride(gaussian_blur(x, 0.4 * factor, radius=6), factor)


def unsharp(
    x: Tensor, weight: float = 0.5, threshold: float = 10.0, size: int = 51, sigma: float = 0.0
) -> Tensor:
    """Sharpen ground truth `x` `[T, C, H, W]` as Real-ESRGAN and RealBasicVSR do.

    Adds `weight` times the residual to a Gaussian blur wherever that residual exceeds `threshold`
    (in 8-bit levels), through a mask blurred by the same Gaussian. `sigma` 0 means OpenCV's rule
    for the kernel size. The result lies in [0, 1]; no gradient through the mask.
    """
    sigma = sigma or 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    residual = x - gaussian_blur(x, sigma, size // 2)
    mask = gaussian_blur((residual.detach().abs() * 255 > threshold).to(x), sigma, size // 2)
    sharp = (x + weight * residual).clamp(0, 1)
    return mask * sharp + (1 - mask) * x


def _reflected(x: Tensor, rows: int, columns: int) -> Tensor:
    height, width = x.shape[-2:]
    if rows < height and columns < width:
        return F.pad(x, (columns, columns, rows, rows), mode="reflect")
    return x[..., _indices(height, rows, x.device), :][..., _indices(width, columns, x.device)]


def _indices(length: int, pad: int, device: torch.device) -> Tensor:
    """Reflect as often as needed, for kernels wider than the picture."""
    period = max(1, 2 * (length - 1))
    place = torch.arange(-pad, length + pad, device=device) % period
    return torch.where(place < length, place, period - place)
