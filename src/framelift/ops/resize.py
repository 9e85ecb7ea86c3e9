"""Resampling as the field defines it: MATLAB's antialiased bicubic."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize `x` `[..., C, H, W]` to `size` (height, width) with MATLAB's `imresize` bicubic.

    Cubic kernel with a = -0.5, widened when shrinking, symmetric borders; computed in float32.
    The result is not clamped: bicubic overshoots [0, 1] at sharp edges. Equal to the formula
    within 1e-6 where old / new is a whole number or a power of two, and within 1e-4 elsewhere
    (torch places samples in float32). Sizes without a common divisor (1079 to 500) renormalise
    the kernel at the border instead of mirroring.
    """
    height, width = x.shape[-2:]
    if (height, width) == tuple(size):
        return x
    flat = x.reshape(-1, *x.shape[-3:]).float()
    rows, row_margin = _border(height, size[0])
    columns, column_margin = _border(width, size[1])
    flat = _pad_symmetric(flat, columns, rows)
    grown = (size[0] + 2 * row_margin, size[1] + 2 * column_margin)
    flat = F.interpolate(flat, size=grown, mode="bicubic", antialias=True)
    flat = flat[..., row_margin : row_margin + size[0], column_margin : column_margin + size[1]]
    return flat.reshape(*x.shape[:-2], *size).to(x.dtype)


def upscale(x: Tensor, factor: int) -> Tensor:
    """Enlarge `x` `[..., C, H, W]` by a whole factor."""
    return resize(x, (x.shape[-2] * factor, x.shape[-1] * factor))


def downscale(x: Tensor, factor: int) -> Tensor:
    """Shrink `x` `[..., C, H, W]` by a whole factor that divides both sides."""
    return resize(x, (x.shape[-2] // factor, x.shape[-1] // factor))


def _border(old: int, new: int) -> tuple[int, int]:
    """Padding that the kernel's support needs, and what it becomes after resizing.

    Both are whole numbers of pixels, so that the sampling grid does not shift; (0, 0) where
    that would take a border much wider than the kernel.
    """
    step = old // math.gcd(old, new)
    support = math.ceil(2 * max(1.0, old / new)) + 1
    if step > 8 * support:
        return 0, 0
    pad = step * math.ceil(support / step)
    return pad, pad * new // old


def _pad_symmetric(x: Tensor, columns: int, rows: int) -> Tensor:
    """Mirror the borders with the edge pixel repeated, as often as needed (1×1 included)."""
    height, width = x.shape[-2:]
    for axis, length, pad in ((-2, height, rows), (-1, width, columns)):
        x = x.index_select(axis, _mirror(length, pad, x.device))
    return x


def _mirror(length: int, pad: int, device: torch.device) -> Tensor:
    folded = torch.arange(-pad, length + pad, device=device) % (2 * length)
    return torch.minimum(folded, 2 * length - 1 - folded)
