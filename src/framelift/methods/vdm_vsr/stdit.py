"""The prior's network: an unconditional spatio-temporal diffusion transformer (section III).

Open-Sora's STDiT "but it excludes any conditional embedding components": the block of its version
1.0 without text cross-attention. Spatial attention sees the tokens of one frame, temporal attention
those of one place; both share one gate of adaLN-single (Chen et al., "PixArt-α", 2023). With
`temporal="rope"` the temporal branch is version 1.1's (STDiT2), which the authors' follow-up used:
norm, modulation and gate of its own, rotary positions, normalised queries and keys.
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

Temporal = Literal["sincos", "rope"]


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
        rope = temporal == "rope"
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(c, 6 * c))
        self.t_block_temporal = nn.Sequential(nn.SiLU(), nn.Linear(c, 3 * c)) if rope else None
        self.blocks = nn.ModuleList(
            Block(c, num_heads, mlp_ratio, temporal, first=i == 0) for i in range(depth)
        )
        self.final_layer = FinalLayer(c, patch_size**2 * self.out_channels)
        self.gradient_checkpointing = False
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
        patch, c = self.config["patch_size"], self.config["hidden_size"]
        rows, columns = height // patch, width // patch
        x = self.x_embedder(sample.transpose(1, 2).flatten(0, 1))  # [B·T, C, rows, columns]
        x = x.flatten(2).mT + _spatial_positions(c, rows, columns).to(x)
        x = x.unflatten(0, (batch, frames))  # [B, T, S, C]

        frequencies = self.timesteps(timestep.expand(batch)).to(x.dtype)
        t = self.t_embedder(frequencies)
        modulation = self.t_block(t)
        if self.t_block_temporal is not None:
            modulation = torch.cat([modulation, self.t_block_temporal(t)], dim=1)
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x = self._gradient_checkpointing_func(block, x, modulation)  # type: ignore[misc]
            else:
                x = block(x, modulation)
        x = self.final_layer(x, t)
        x = x.view(batch, frames, rows, columns, patch, patch, self.out_channels)
        return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, frames, height, width)


class Block(nn.Module):
    """Spatial attention, temporal attention, MLP over `x` `[B, T, S, C]`."""

    def __init__(
        self, c: int, heads: int, mlp_ratio: float, temporal: Temporal, first: bool
    ) -> None:
        super().__init__()
        rope = temporal == "rope"
        self.embed_time = first and not rope  # once, in block 0, as Open-Sora does
        self.norm = nn.LayerNorm(c, eps=1e-6, elementwise_affine=False)
        self.attn = SelfAttention(c, heads)
        self.attn_temp = SelfAttention(c, heads, rope=rope)
        mult: Any = mlp_ratio
        self.mlp = FeedForward(c, mult=mult, activation_fn="gelu-approximate")
        self.scale_shift_table = nn.Parameter(torch.randn(6, c) / math.sqrt(c))
        self.scale_shift_table_temporal = (
            nn.Parameter(torch.randn(3, c) / math.sqrt(c)) if rope else None
        )

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """`modulation` `[B, 6C]` (`[B, 9C]` with rope) is the projected timestep."""
        frames = x.shape[1]
        both = (self.scale_shift_table, self.scale_shift_table_temporal)
        tables = torch.cat([table for table in both if table is not None])
        rows = tables + modulation.unflatten(1, (-1, x.shape[-1]))
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp, *own = rows[:, :, None, None].unbind(1)

        x = x + gate * self.attn(modulate(self.norm(x), shift, scale))
        in_time = x.transpose(1, 2)  # [B, S, T, C]
        if self.embed_time:
            in_time = in_time + _temporal_positions(x.shape[-1], frames).to(x)
        if own:
            shift, scale, gate = own
            in_time = modulate(self.norm(in_time), shift, scale)
        x = x + gate * self.attn_temp(in_time).transpose(1, 2)
        return x + gate_mlp * self.mlp(modulate(self.norm(x), shift_mlp, scale_mlp))


class SelfAttention(nn.Module):
    """Multi-head self-attention over the last but one axis of `[B, G, N, C]`."""

    def __init__(self, c: int, heads: int, rope: bool = False) -> None:
        super().__init__()
        self.heads, self.rope = heads, rope
        self.qkv = nn.Linear(c, 3 * c)
        self.proj = nn.Linear(c, c)
        self.q_norm = HeadNorm(c // heads) if rope else nn.Identity()
        self.k_norm = HeadNorm(c // heads) if rope else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        groups, (length, c) = x.shape[:2], x.shape[2:]
        qkv = self.qkv(x).view(-1, length, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()  # each [B·G, heads, N, C/heads]
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        if self.rope:
            positions: Any = get_1d_rotary_pos_embed(c // self.heads, length, use_real=True)
            cosine, sine = (table.to(q.device) for table in positions)
            q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        out = attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(*groups, length, c))


class HeadNorm(nn.Module):
    """RMS norm in the precision of its input; diffusers' works in float32 even on float64."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=1e-6) * self.weight


class FinalLayer(nn.Module):
    """Modulated projection; its table is joined by the raw timestep embedding."""

    def __init__(self, c: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(c, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(c, out)
        self.scale_shift_table = nn.Parameter(torch.randn(2, c) / math.sqrt(c))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + t[:, None])[:, :, None, None].unbind(1)
        return self.linear(modulate(self.norm(x), shift, scale))


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention; spelt out on CPUs, whose fused kernel is slower for a dozen tokens."""
    if q.device.type != "cpu" or q.shape[-2] > 64:
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1) @ v


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding of neighbouring pairs of `[..., N, D]`, in at least the precision of x."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-second, first], dim=-1).flatten(-2)
    return (x * cosine + turned * sine).to(x.dtype)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN's x·(1 + scale) + shift."""
    return x * (1 + scale) + shift


def _spatial_positions(c: int, rows: int, columns: int) -> Tensor:
    """2-D sines and cosines `[rows·columns, C]`."""
    table: Any = get_2d_sincos_pos_embed(c, (rows, columns), base_size=rows, output_type="pt")
    return table.float()


def _temporal_positions(c: int, frames: int) -> Tensor:
    """Sines and cosines of the frame number `[T, C]`."""
    return get_1d_sincos_pos_embed_from_grid(c, torch.arange(frames), output_type="pt").float()
