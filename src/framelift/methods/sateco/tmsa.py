"""Temporal mutual self-attention (TMSA; Liang et al., "VRT", 2022), the block of the upscaler.

Tokens are `[B, T, H, W, C]`. A window holds two neighbouring frames; in a shifted block the pairs
begin one frame later and the windows half a window earlier, so that stacked blocks carry
information beyond both. A frame that has no partner is its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.methods.sateco.windows import attend, join, split


class TMSA(nn.Module):
    """x + attention(LN(x)), then x + GEGLU(LN(x)), in windows of two frames."""

    def __init__(
        self, width: int, heads: int, window: int = 8, mlp_ratio: float = 2.0, shifted: bool = False
    ) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.norm1 = nn.LayerNorm(width)
        self.attention = MutualSelfAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = GEGLU(width, round(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `[B, T, H, W, C]` of any T ≥ 1 and any sides; the result has the same shape."""
        first = 1 if self.shifted else 0
        last = first + max(x.shape[1] - first, 0) // 2 * 2
        groups = [x[:, t : t + 1, None] for t in range(first)]
        if last > first:
            groups.append(x[:, first:last].unflatten(1, (-1, 2)))
        groups += [x[:, t : t + 1, None] for t in range(last, x.shape[1])]
        return torch.cat([self._in_windows(g).flatten(1, 2) for g in groups], dim=1)

    def _in_windows(self, x: Tensor) -> Tensor:
        """The block on groups of frames `[B, G, D, H, W, C]`, D = 1 or 2 frames a window."""
        size, before = (x.shape[3], x.shape[4]), self.window // 2 if self.shifted else 0
        windows, mask = split(x.flatten(0, 1), self.window, before)
        tokens = windows.flatten(1, 3)
        if mask is not None:
            mask = mask.flatten(1).repeat(1, x.shape[2])
        tokens = tokens + self.attention(self.norm1(tokens), mask)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return join(tokens.reshape(windows.shape), size, before).reshape(x.shape)


class MutualSelfAttention(nn.Module):
    """Self-attention over a window's tokens, beside attention of each frame to its partner."""

    bias_index: Tensor
    encoding: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_self = nn.Linear(width, 3 * width)
        self.qkv_mutual = nn.Linear(width, 3 * width)
        self.project = nn.Linear(2 * width, width)
        self.bias_table = nn.Parameter(0.02 * torch.randn(heads, 3 * (2 * window - 1) ** 2))
        self.register_buffer("bias_index", relative_index(window), persistent=False)
        self.register_buffer("encoding", sine_encoding(window, width), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of windows `[N, D·M·M, C]`; `mask` `[N, D·M·M]` is added to the keys' scores."""
        tokens, area = x.shape[1], self.encoding.shape[0]
        index = self.bias_index[:tokens, :tokens]
        bias = self.bias_table[:, index.flatten()].view(self.heads, tokens, tokens)
        q, k, v = self.qkv_self(x).chunk(3, -1)
        itself = attend(q, k, v, self.heads, mask, bias)

        position = self.encoding.repeat(tokens // area, 1)
        frames = self.qkv_mutual(x + position).reshape(-1, area, 3 * x.shape[-1])
        q, k, v = frames.chunk(3, -1)
        if tokens > area:  # each frame asks the other
            q = q.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        of_frames = None if mask is None else mask.reshape(-1, area)
        mutual = attend(q, k, v, self.heads, of_frames)
        if tokens > area:
            mutual = mutual.unflatten(0, (-1, 2)).flip(1)
        return self.project(torch.cat([itself, mutual.reshape(x.shape)], -1))


class GEGLU(nn.Module):
    """W₃(GELU(W₁x) ⊙ W₂x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * hidden)
        self.reduce = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.expand(x).chunk(2, -1)
        return self.reduce(F.gelu(gate) * value)


def relative_index(window: int) -> Tensor:
    """For each pair of a two-frame window's tokens the row of the bias table, `[2M², 2M²]`."""
    axes = (torch.arange(2), torch.arange(window), torch.arange(window))
    place = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    t, y, x = (place[:, :, None] - place[:, None, :]) + torch.tensor(
        [1, window - 1, window - 1]
    ).view(3, 1, 1)
    return (t * (2 * window - 1) + y) * (2 * window - 1) + x


def sine_encoding(window: int, width: int) -> Tensor:
    """Sine and cosine of a token's row and column in its window, `[M², width]`."""
    quarter = -(-width // 4)
    place = (torch.arange(window) + 1) / window * 2 * torch.pi
    angles = place[:, None] / 10000 ** (torch.arange(quarter) / quarter)
    waves = torch.cat([angles.sin(), angles.cos()], -1)
    rows = waves[:, None].expand(window, window, -1)
    columns = waves[None].expand(window, window, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)[:, :width].contiguous()
