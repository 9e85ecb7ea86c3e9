"""Backward warping by optical flow, and which pixels a flow can be trusted on."""

import torch
import torch.nn.functional as F
from torch import Tensor


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
    px = torch.arange(width, device=x.device) + flow[:, 0]
    py = torch.arange(height, device=x.device)[:, None] + flow[:, 1]
    if half_pixel:
        grid = torch.stack([2 * px / max(width - 1, 1) - 1, 2 * py / max(height - 1, 1) - 1], -1)
        return F.grid_sample(x, grid.to(x.dtype), padding_mode="zeros", align_corners=False)
    return _bilinear(x, px.clamp(0, width - 1), py.clamp(0, height - 1))


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


def _bilinear(x: Tensor, px: Tensor, py: Tensor) -> Tensor:
    """Values of `x` at positions `[T, H, W]` inside of it; exact at whole ones."""
    height, width = x.shape[-2:]
    left, top = px.detach().floor(), py.detach().floor()
    along_x, along_y = ((p - q)[:, None].to(x.dtype) for p, q in ((px, left), (py, top)))
    columns = left.long(), (left.long() + 1).clamp(max=width - 1)
    rows = top.long() * width, (top.long() + 1).clamp(max=height - 1) * width
    flat = x.flatten(2)

    def fetch(row: Tensor, column: Tensor) -> Tensor:
        corners = [f.index_select(1, i.flatten()) for f, i in zip(flat, row + column, strict=True)]
        return torch.stack(corners).view_as(x)

    upper, lower = (fetch(row, columns[0]).lerp(fetch(row, columns[1]), along_x) for row in rows)
    return upper.lerp(lower, along_y)


def _square(vectors: Tensor) -> Tensor:
    return vectors.square().sum(dim=1, keepdim=True)
