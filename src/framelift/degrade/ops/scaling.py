"""Resizing without antialiasing, as careless software does it."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from framelift.ops import resize as matlab

Filter = Literal["area", "bilinear", "bicubic", "matlab"]


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
