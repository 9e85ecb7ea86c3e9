"""Backward warping by optical flow, and which pixels a flow can be trusted on."""

import torch
import torch.nn.functional as F
from torch import Tensor

STRIP = 64  # rows


def warp(x: Tensor, flow: Tensor, *, half_pixel: bool = False) -> Tensor:
    """Fetch `x` `[T, C, H, W]` at every pixel's position plus `flow` `[T, 2, H, W]`, bilinearly.

    `flow` holds (dx, dy) in pixels on the grid of the result: out(p) = x(p + flow(p)). Positions
    beyond the border are moved onto it, as in Lai et al. (2018). Zero flow returns `x` bit for bit.
    Differentiable in both arguments.

    `half_pixel` samples as StableVSR's released code does: coordinates normalised by W-1 but read
    as if by W, which shifts them by -0.5 px at one border to +0.5 px at the other, and zero
    beyond the border. It is there to reproduce their numbers and their checkpoint.
    """
    if x.shape[0] != flow.shape[0] or x.shape[2:] != flow.shape[2:] or flow.shape[1] != 2:
        raise ValueError(f"flow {list(flow.shape)} does not fit frames {list(x.shape)}")
    height, width = x.shape[-2:]
    flow = flow.to(torch.promote_types(flow.dtype, torch.float32))
    if half_pixel:
        px = torch.arange(width, device=x.device) + flow[:, 0]
        py = torch.arange(height, device=x.device)[:, None] + flow[:, 1]
        grid = torch.stack([2 * px / max(width - 1, 1) - 1, 2 * py / max(height - 1, 1) - 1], -1)
        return F.grid_sample(x, grid.to(x.dtype), padding_mode="zeros", align_corners=False)
    return _bilinear(x, flow)


def visible(to: Tensor, back: Tensor) -> Tensor:
    """Pixels that a flow leads to the same point in the other frame: bool `[T, 1, H, W]`.

    Lai et al. (2018), after Ruder et al. (2016): with `to` `[T, 2, H, W]` the flow from this frame
    to the other and f the flow `back`, on the other frame's grid, fetched along `to`, a pixel is
    occluded if |f + to|² > 0.01(|f|² + |to|²) + 0.5, or lies on a motion border:
    |∇to|² > 0.01|to|² + 0.002, with forward differences.
    """
    fetched = warp(back, to)
    length = _square(to)
    occluded = _square(fetched + to) > 0.01 * (_square(fetched) + length) + 0.5
    along_x = F.pad(_square(to[..., 1:] - to[..., :-1]), (0, 1))
    along_y = F.pad(_square(to[..., 1:, :] - to[..., :-1, :]), (0, 0, 0, 1))
    border = along_x + along_y > 0.01 * length + 0.002
    return ~(occluded | border)


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample `flow` `[T, 2, H, W]` to `size` (height, width), displacements scaled along."""
    height, width = flow.shape[-2:]
    if (height, width) == tuple(size):
        return flow
    resized = F.interpolate(flow, size=size, mode="bilinear", antialias=True)
    return resized * resized.new_tensor([size[1] / width, size[0] / height])[:, None, None]


def _bilinear(x: Tensor, flow: Tensor) -> Tensor:
    """Values of `x` at positions moved onto it; exact at whole ones.

    On a CPU strip by strip, so that what lies between stays in the cache.
    """
    height = x.shape[-2]
    strip = STRIP if x.device.type == "cpu" else height
    # With the last row and column repeated, a position's corners are one index at four offsets.
    planes = F.pad(x, (0, 1, 0, 1), mode="replicate").flatten(2)
    strips = [
        _strip(planes, flow[:, :, top : top + strip], top, height)
        for top in range(0, height, strip)
    ]
    return torch.cat(strips, dim=2)


def _strip(planes: Tensor, flow: Tensor, top: int, height: int) -> Tensor:
    """The rows from `top` on; plane by plane, for torch gathers fastest from a row of memory."""
    rows, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device)
    y = torch.arange(top, top + rows, device=flow.device)[:, None]
    x, y = (x + flow[:, 0]).clamp(0, width - 1), (y + flow[:, 1]).clamp(0, height - 1)
    stride = width + 1
    corners = (y.int() * stride + x.int()).flatten(1)
    along_x, along_y = x.frac().to(planes.dtype), y.frac().to(planes.dtype)

    def fetch(plane: Tensor, n: int) -> Tensor:
        upper_left, upper_right, lower_left, lower_right = (
            plane[offset:].index_select(0, corners[n]).view(rows, width)
            for offset in (0, 1, stride, stride + 1)
        )
        upper = upper_left.lerp(upper_right, along_x[n])
        return upper.lerp(lower_left.lerp(lower_right, along_x[n]), along_y[n])

    fetched = [fetch(plane, n) for n, frame in enumerate(planes) for plane in frame]
    return torch.stack(fetched).view(*planes.shape[:2], rows, width)


def _square(vectors: Tensor) -> Tensor:
    return vectors.square().sum(dim=1, keepdim=True)
