"""Colours of the input given back to the output of a network that shifted them."""

import torch
from torch import Tensor

from framelift.types import ColorFix

LEVELS = 5


def color_fix(method: ColorFix, frames: Tensor, reference: Tensor) -> Tensor:
    """Give `frames` the colours of `reference` (the enlarged LR), both `[T, 3, H, W]`.

    "wavelet" takes the low frequencies of the reference, "adain" its mean and deviation per frame
    and channel. Computed in and returned as float32, not clamped.
    """
    if frames.shape != reference.shape:
        raise ValueError(f"sizes differ: {list(frames.shape)} and {list(reference.shape)}")
    if method == "none":
        return frames.float()
    fix = {"wavelet": _wavelet, "adain": _adain}[method]
    fixed = torch.empty(frames.shape, dtype=torch.float32, device=frames.device)
    for t in range(len(frames)):  # one at a time: a frame's intermediates stay in the cache
        fixed[t] = fix(frames[t].float(), reference[t].to(frames.device, torch.float32))
    return fixed


def low_frequencies(x: Tensor) -> Tensor:
    """Blur `x` `[C, H, W]` with the 3×3 binomial kernel dilated by 1, 2, 4, 8, 16 in turn.

    Borders are replicated at every level, and may be wider than the image.
    """
    for radius in (2**level for level in range(LEVELS)):
        for dim in (-2, -1):
            x = _blur(x, dim, radius)
    return x


def _blur(x: Tensor, dim: int, radius: int) -> Tensor:
    """[1, 2, 1] / 4, `radius` apart along one dimension; shifted sums need no padded copy."""
    length = x.shape[dim]
    border = min(radius, length)
    inner = length - border
    blurred = 0.5 * x
    blurred.narrow(dim, border, inner).add_(x.narrow(dim, 0, inner), alpha=0.25)
    blurred.narrow(dim, 0, border).add_(x.narrow(dim, 0, 1), alpha=0.25)
    blurred.narrow(dim, 0, inner).add_(x.narrow(dim, border, inner), alpha=0.25)
    blurred.narrow(dim, inner, border).add_(x.narrow(dim, length - 1, 1), alpha=0.25)
    return blurred


def _wavelet(frame: Tensor, reference: Tensor) -> Tensor:
    """Own high plus reference low frequencies; the split is linear, so one blur does for both."""
    return frame + low_frequencies(reference - frame)


def _adain(frame: Tensor, reference: Tensor) -> Tensor:
    """Match mean and deviation per channel, with the usual 1e-5 added to both variances."""
    variance, mean = torch.var_mean(frame, (-2, -1), correction=0, keepdim=True)
    wanted, center = torch.var_mean(reference, (-2, -1), correction=0, keepdim=True)
    return (frame - mean) * ((wanted + 1e-5) / (variance + 1e-5)).sqrt() + center
