"""Windows of tokens, and attention inside them, for the upscaler and TFA."""

import torch.nn.functional as F
from torch import Tensor

MASKED = -1e4


def split(x: Tensor, window: int, before: int = 0) -> tuple[Tensor, Tensor | None]:
    """Cut `[N, D, H, W, C]` into windows of D frames: `[N·R·K, D, M, M, C]`, R rows, K columns.

    The first window begins `before` tokens outside; what lies outside is zero. Also returns what
    to add to the scores of the keys, `[N·R·K, M, M]`: 0, and a large negative number outside;
    None if every token is inside.
    """
    number, depth, height, width, channels = x.shape
    bottom, right = -(height + before) % window, -(width + before) % window
    rows, columns = (height + before + bottom) // window, (width + before + right) // window
    padded = before or bottom or right
    if padded:
        x = F.pad(x, (0, 0, before, right, before, bottom))
    x = x.reshape(number, depth, rows, window, columns, window, channels)
    x = x.permute(0, 2, 4, 1, 3, 5, 6).reshape(-1, depth, window, window, channels)
    if not padded:
        return x, None
    mask = F.pad(x.new_zeros(height, width), (before, right, before, bottom), value=MASKED)
    mask = mask.reshape(rows, window, columns, window).transpose(1, 2)
    return x, mask.reshape(-1, window, window).repeat(number, 1, 1)


def join(x: Tensor, size: tuple[int, int], before: int = 0) -> Tensor:
    """Undo `split`: windows `[N·R·K, D, M, M, C]` to `[N, D, H, W, C]` with (H, W) = `size`."""
    depth, window, channels = x.shape[1], x.shape[2], x.shape[-1]
    rows, columns = (-(-(side + before) // window) for side in size)
    x = x.reshape(-1, rows, columns, depth, window, window, channels).permute(0, 3, 1, 4, 2, 5, 6)
    x = x.reshape(-1, depth, rows * window, columns * window, channels)
    return x[:, :, before : before + size[0], before : before + size[1]]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Softmax(q·kᵀ/√d + mask + bias)·v in `heads` parts of the channels.

    q, k, v `[N, tokens, C]`; `mask` `[N, keys]` differs from window to window, `bias`
    `[heads, queries, keys]` does not.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scale = q.shape[-1] ** -0.5
    if mask is not None:  # as one more feature: no scores need to be kept for each window
        q = F.pad(q, (0, 1), value=1.0)
        k = F.pad(k, (0, 1))
        k[..., -1] = mask[:, None] / scale
        v = F.pad(v, (0, 1))
    if bias is not None:
        bias = bias.expand(q.shape[0], -1, -1, -1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    out = out if mask is None else out[..., :-1]
    return out.transpose(1, 2).flatten(2)
