"""The prior's network: an unconditional spatio-temporal diffusion transformer (section III).

Open-Sora's STDiT "but it excludes any conditional embedding components": the block of its version
1.0 without text cross-attention. Spatial attention sees the tokens of one frame, temporal attention
those of one place; both share one gate of adaLN-single (Chen et al., "PixArt-α", 2023). With
`temporal="rope"` the temporal branch is version 1.1's (STDiT2), which the authors' follow-up used:
norm, modulation and gate of its own, rotary positions, normalised queries and keys. With `"joint"`
that branch sees the tokens of the whole clip, rotated by time, row and column, so that what moves
is found in one look (Yang et al., "CogVideoX", 2024, section 2.2, on large motion).
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import (
    TimestepEmbedding,
    Timesteps,
    get_1d_rotary_pos_embed,
    get_1d_sincos_pos_embed_from_grid,
    get_2d_sincos_pos_embed,
)
from torch import Tensor, nn

Temporal = Literal["sincos", "rope", "joint"]
Tables = tuple[Tensor, Tensor]
"""Cosines and sines `[N, D]` by which queries and keys of N tokens are rotated."""


class STDiT(ModelMixin, ConfigMixin):
    """Noisy latents `[B, c, T, h, w]` and timesteps `[B]` → ε and v, `[B, 2c, T, h, w]`.

    v in [-1, 1] or near it interpolates the variance of the reverse step (Nichol & Dhariwal 2021);
    without `learn_sigma` only ε is returned. h and w are multiples of `patch_size`.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        patch_size: int = 2,
        hidden_size: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        learn_sigma: bool = True,
        temporal: Temporal = "sincos",
    ) -> None:
        super().__init__()
        c = hidden_size
        self.out_channels = in_channels * (2 if learn_sigma else 1)
        self.x_embedder = nn.Conv2d(in_channels, c, patch_size, patch_size)
        self.timesteps = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.t_embedder = TimestepEmbedding(256, c)
        rope = temporal != "sincos"
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(c, 6 * c))
        self.t_block_temporal = nn.Sequential(nn.SiLU(), nn.Linear(c, 3 * c)) if rope else None
        self.blocks = nn.ModuleList(
            Block(c, num_heads, mlp_ratio, temporal, first=i == 0) for i in range(depth)
        )
        self.final_layer = FinalLayer(c, patch_size**2 * self.out_channels)
        self.gradient_checkpointing = False
        self._tables: dict[Any, Any] = {}
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for linear layers; what adds to the residual stream in time starts at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.x_embedder.weight.flatten(1))
        for part in (self.t_embedder, self.t_block, self.t_block_temporal):
            for layer in part.modules() if part is not None else ():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.02)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.zeros_(block.attn_temp.proj.weight)
        nn.init.zeros_(self.final_layer.linear.weight)

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """ε and v for `sample` `[B, c, T, h, w]` at `timestep` `[B]` or 0-d."""
        batch, _, frames, height, width = sample.shape
        patch = self.config["patch_size"]
        rows, columns = height // patch, width // patch
        x = self.x_embedder(sample.transpose(1, 2).flatten(0, 1))  # [B·T, C, rows, columns]
        spatial, temporal, rotations = self._positions((frames, rows, columns), x)
        x = x.flatten(2).mT + spatial
        x = x.unflatten(0, (batch, frames))  # [B, T, S, C]

        frequencies = self.timesteps(timestep.expand(batch)).to(x.dtype)
        t = self.t_embedder(frequencies)
        modulation = self.t_block(t)
        if self.t_block_temporal is not None:
            modulation = torch.cat([modulation, self.t_block_temporal(t)], dim=1)
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                inputs = (block, x, modulation, temporal, rotations)
                x = self._gradient_checkpointing_func(*inputs)  # type: ignore[misc]
            else:
                x = block(x, modulation, temporal, rotations)
        x = self.final_layer(x, t)
        x = x.view(batch, frames, rows, columns, patch, patch, self.out_channels)
        return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, frames, height, width)

    def _positions(
        self, size: tuple[int, int, int], like: Tensor
    ) -> tuple[Tensor, Tensor, Tables | None]:
        """Embeddings of place `[S, C]` and time `[T, C]` and the temporal branch's rotations.

        They are kept: made anew, they would cost more than a small network's step on a GPU.
        """
        key = (size, like.device, like.dtype)
        if key in self._tables:
            return self._tables[key]
        with torch.inference_mode(False):  # or training could not use what sampling made
            frames, rows, columns = size
            c, kind = self.config["hidden_size"], self.config["temporal"]
            rotations = _rotations(kind, c // self.config["num_heads"], size)
            tables = (_spatial_positions(c, rows, columns), _temporal_positions(c, frames))
            both = tuple(table.to(like) for table in rotations) if rotations else None
            self._tables = {key: (*(table.to(like) for table in tables), both)}
        return self._tables[key]


class Block(nn.Module):
    """Spatial attention, temporal attention, MLP over `x` `[B, T, S, C]`."""

    def __init__(
        self, c: int, heads: int, mlp_ratio: float, temporal: Temporal, first: bool
    ) -> None:
        super().__init__()
        rope = temporal != "sincos"
        self.joint = temporal == "joint"
        self.embed_time = first and not rope  # once, in block 0, as Open-Sora does
        self.norm = TokenNorm()
        self.attn = SelfAttention(c, heads)
        self.attn_temp = SelfAttention(c, heads, rope=rope)
        mult: Any = mlp_ratio
        self.mlp = FeedForward(c, mult=mult, activation_fn="gelu-approximate")
        self.scale_shift_table = nn.Parameter(torch.randn(6, c) / math.sqrt(c))
        self.scale_shift_table_temporal = (
            nn.Parameter(torch.randn(3, c) / math.sqrt(c)) if rope else None
        )

    def forward(
        self, x: Tensor, modulation: Tensor, temporal: Tensor, rotations: Tables | None
    ) -> Tensor:
        """`modulation` `[B, 6C]` (`[B, 9C]` unless sincos) is the projected timestep.

        `temporal` `[T, C]` embeds time, `rotations` are those of the temporal branch.
        """
        both = (self.scale_shift_table, self.scale_shift_table_temporal)
        tables = torch.cat([table for table in both if table is not None])
        rows = (tables + modulation.unflatten(1, (-1, x.shape[-1]))).to(x.dtype)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp, *own = rows[:, :, None, None].unbind(1)

        x = torch.addcmul(x, gate, self.attn(modulate(self.norm(x), shift, scale)))
        in_time = x
        if own:
            shift, scale, gate = own
            in_time = modulate(self.norm(x), shift, scale)
        if self.joint:
            seen = self.attn_temp(in_time.flatten(1, 2)[:, None], rotations)
            seen = seen.view_as(x)
        else:
            in_time = in_time.transpose(1, 2)  # [B, S, T, C]
            in_time = in_time + temporal if self.embed_time else in_time
            seen = self.attn_temp(in_time, rotations).transpose(1, 2)
        x = torch.addcmul(x, gate, seen)
        made = self.mlp(modulate(self.norm(x), shift_mlp, scale_mlp))
        return torch.addcmul(x, gate_mlp, made)


class SelfAttention(nn.Module):
    """Multi-head self-attention over the last but one axis of `[B, G, N, C]`."""

    def __init__(self, c: int, heads: int, rope: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(c, 3 * c)
        self.proj = nn.Linear(c, c)
        self.q_norm = HeadNorm(c // heads) if rope else nn.Identity()
        self.k_norm = HeadNorm(c // heads) if rope else nn.Identity()

    def forward(self, x: Tensor, rotations: Tables | None = None) -> Tensor:
        groups, (length, c) = x.shape[:2], x.shape[2:]
        qkv = self.qkv(x).view(-1, length, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()  # each [B·G, heads, N, C/heads]
        q, k = self.q_norm(q), self.k_norm(k)
        if rotations is not None:
            q, k = rotate(q, *rotations), rotate(k, *rotations)
        out = attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(*groups, length, c))


class TokenNorm(nn.Module):
    """Layer norm without parameters, in the precision of its input.

    Autocast would run `layer_norm` in float32 and all that follows up to the next matrix with it,
    which is most of a step's time on a GPU; sums are taken in float32 either way.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.native_layer_norm(x, x.shape[-1:], None, None, 1e-6)[0]


class HeadNorm(nn.Module):
    """RMS norm in the precision of its input; diffusers' works in float32 even on float64."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=1e-6).to(x.dtype) * self.weight.to(x.dtype)


class FinalLayer(nn.Module):
    """Modulated projection; its table is joined by the raw timestep embedding."""

    def __init__(self, c: int, out: int) -> None:
        super().__init__()
        self.norm = TokenNorm()
        self.linear = nn.Linear(c, out)
        self.scale_shift_table = nn.Parameter(torch.randn(2, c) / math.sqrt(c))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        table = (self.scale_shift_table + t[:, None]).to(x.dtype)
        shift, scale = table[:, :, None, None].unbind(1)
        return self.linear(modulate(self.norm(x), shift, scale))


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention; spelt out on CPUs, whose fused kernel is slower for a dozen tokens."""
    if q.device.type != "cpu" or q.shape[-2] > 64:
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1) @ v


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding of neighbouring pairs of `[..., N, D]`, in the precision of x."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-second, first], dim=-1).flatten(-2)
    return torch.addcmul(x * cosine.to(x.dtype), turned, sine.to(x.dtype))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN's x·(1 + scale) + shift."""
    return torch.addcmul(shift, x, 1 + scale)


def _rotations(kind: Temporal, size: int, shape: tuple[int, int, int]) -> Tables | None:
    """Rotations of heads of `size` values: by the frame number, or by frame, row and column.

    A joint branch spends a quarter of its pairs on time and the rest on the two axes; its slowest
    pair turns once in about 150 tokens, of which a clip has some ten a side.
    """
    if kind == "sincos":
        return None
    frames, rows, columns = shape
    if kind == "rope":
        tables: Any = get_1d_rotary_pos_embed(size, frames, use_real=True)
        return tables
    pairs = size // 2
    of_time = max(1, pairs // 4)
    of_rows = (pairs - of_time) // 2
    axes = zip((of_time, of_rows, pairs - of_time - of_rows), shape, strict=True)
    grids: list[Any] = [get_1d_rotary_pos_embed(2 * p, n, theta=30, use_real=True) for p, n in axes]
    places = ((frames, 1, 1), (1, rows, 1), (1, 1, columns))
    spread = [
        [t.reshape(*place, -1).expand(frames, rows, columns, -1) for t in grid]
        for grid, place in zip(grids, places, strict=True)
    ]
    cosine, sine = (torch.cat(tables, dim=-1).flatten(0, 2) for tables in zip(*spread, strict=True))
    return cosine, sine


def _spatial_positions(c: int, rows: int, columns: int) -> Tensor:
    """2-D sines and cosines `[rows·columns, C]`."""
    table: Any = get_2d_sincos_pos_embed(c, (rows, columns), base_size=rows, output_type="pt")
    return table.float()


def _temporal_positions(c: int, frames: int) -> Tensor:
    """Sines and cosines of the frame number `[T, C]`."""
    return get_1d_sincos_pos_embed_from_grid(c, torch.arange(frames), output_type="pt").float()
