"""Operations on frames `[T, C, H, W]`, RGB in [0, 1], that several degradations share.

Differentiable in the frames; what rounds passes gradients straight through. Borders are reflected
without repeating the edge pixel. Nothing here draws parameters.
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from framelift.ops import resize as matlab

Filter = Literal["area", "bilinear", "bicubic", "matlab"]


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
    row = _gaussian_row(sigma, radius).to(x).expand(channels, 1, 1, -1).contiguous()
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


def rescale(x: Tensor, size: tuple[int, int], kernel: Filter) -> Tensor:
    """Resize `x` `[T, C, H, W]` to `size` (height, width).

    "bilinear" and "bicubic" (a = −0.75) alias when they shrink, as in OpenCV and torch, which the
    published pipelines use; "area" averages when it shrinks and is bilinear when it enlarges;
    "matlab" is the antialiased `framelift.ops.resize`. Bicubic overshoots [0, 1].
    """
    height, width = x.shape[-2:]
    if (height, width) == size:
        return x
    if kernel == "matlab":
        return matlab.resize(x, size)
    if kernel == "area" and size[0] <= height and size[1] <= width:
        return F.interpolate(x, size, mode="area")
    mode = "bilinear" if kernel == "area" else kernel
    return F.interpolate(x, size, mode=mode, align_corners=False)


def gaussian_noise(x: Tensor, sigma: float, rng: np.random.Generator, gray: bool = False) -> Tensor:
    """Add Gaussian noise of deviation `sigma` (for values in [0, 1]) to `x` `[T, 3, H, W]`.

    `gray`: the same noise in all three channels. The result is not clamped.
    """
    frames, channels, height, width = x.shape
    shape = (frames, 1 if gray else channels, height, width)
    return x + sigma * torch.from_numpy(rng.standard_normal(shape, np.float32)).to(x)


def quantize(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bits; the gradient passes where nothing was clamped."""
    clamped = x.clamp(0, 1)
    return straight_through((clamped.detach() * 255).round() / 255, clamped)


def straight_through(result: Tensor, x: Tensor) -> Tensor:
    """The value of `result` with the gradient of `x`, of the same shape."""
    return result + (x - x.detach()) if x.requires_grad else result


def from_bytes(rgb: np.ndarray, like: Tensor) -> Tensor:
    """uint8 `[H, W, 3]` → `[3, H, W]` in [0, 1], with the dtype and device of `like`."""
    return torch.from_numpy(rgb).permute(2, 0, 1).to(like) / 255


def _gaussian_row(sigma: float, radius: int) -> Tensor:
    """One-dimensional Gaussian `[2·radius + 1]`, float64, that sums to one."""
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    row = torch.exp(-0.5 * (x / sigma) ** 2)
    return row / row.sum()


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
