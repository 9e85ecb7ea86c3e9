"""What makes image networks networks of clips: layers that see time.

Frames lie side by side in the batch, `[B·T, C, h, w]`; modules that must know where a clip begins
are `OfClips` and are told T before the network runs (`set_frames`). Names of parameters are those
of the released Upscale-A-Video (Zhou et al., CVPR 2024), so that its files can be read. At
initialisation every module that is added to an image network is the identity.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

ROTARY = 32  # dimensions of a head that are rotated, at most
BUCKETS, FAR = 32, 32  # of relative positions; distances from FAR on share a bucket


class OfClips:
    """A module that is told how many frames a clip has."""

    frames: int = 1


def set_frames(network: nn.Module, frames: int) -> None:
    """Tell every `OfClips` in a network the length of the clips that it will see."""
    for module in network.modules():
        if isinstance(module, OfClips):
            module.frames = frames


def zeroed(module: Any) -> Any:
    """The module with all parameters at zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ClipGroupNorm(nn.GroupNorm, OfClips):
    """Group normalisation whose mean and deviation are those of a whole clip."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.frames == 1:
            return super().forward(x)
        clips = x.unflatten(0, (-1, self.frames)).transpose(1, 2)
        return super().forward(clips).transpose(1, 2).flatten(0, 1)


def share_statistics(network: nn.Module) -> None:
    """Let the residual blocks and the output of a UNet or VAE normalise over whole clips.

    As released networks of this kind do, whose 3-D tensors pass a group norm as they are.
    """
    for module in list(network.modules()):
        for name in ("norm1", "norm2", "norm_3d", "conv_norm_out"):
            norm = getattr(module, name, None)
            if type(norm) is nn.GroupNorm:
                shared = ClipGroupNorm(norm.num_groups, norm.num_channels, norm.eps)
                setattr(module, name, shared)


class TimeConv(nn.Conv3d, OfClips):
    """Convolution of `[B·T, C, h, w]` over time alone (kernel k×1×1), or over time and space."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        clips = x.unflatten(0, (-1, self.frames)).transpose(1, 2)
        if self.kernel_size[1:] == (1, 1):  # a 2-D convolution over (T, h·w), which is faster
            padding = (self.kernel_size[0] // 2, 0)
            made = F.conv2d(clips.flatten(3), self.weight.squeeze(-1), self.bias, padding=padding)
            made = made.unflatten(3, clips.shape[3:])
        else:
            made = super().forward(clips)
        return made.transpose(1, 2).flatten(0, 1)


def time_conv(channels: int, kernel: tuple[int, int, int]) -> TimeConv:
    """A convolution that keeps size and channels."""
    padding = tuple(k // 2 for k in kernel)
    return TimeConv(channels, channels, kernel, padding=padding)  # pyright: ignore[reportArgumentType]


class TemporalResnetBlock(nn.Module):
    """Residual block of convolutions over time: `kernel`, then 3."""

    def __init__(self, channels: int, kernel: int, groups: int, time_channels: int | None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=1e-6)
        self.conv1 = time_conv(channels, (kernel, 1, 1))
        self.time_emb_proj = None if time_channels is None else nn.Linear(time_channels, channels)
        self.norm2 = nn.GroupNorm(groups, channels, eps=1e-6)
        self.conv2 = time_conv(channels, (3, 1, 1))

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """`x` `[B·T, C, h, w]`; `time` `[B·T, c]` embeds the timestep."""
        made = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None and time is not None:
            made = made + self.time_emb_proj(F.silu(time))[:, :, None, None]
        return x + self.conv2(F.silu(self.norm2(made)))


class TemporalModule(nn.Module):
    """Stands behind a block of the UNet: x + shift(spatial(temporal(x))), shift at zero first."""

    def __init__(self, channels: int, groups: int, time_channels: int, spatial: bool) -> None:
        super().__init__()
        self.resblocks_3d_temporal = TemporalResnetBlock(channels, 5, groups, time_channels)
        self.resblocks_3d_spatial = (
            ResnetBlock2D(in_channels=channels, groups=groups, temb_channels=time_channels)
            if spatial
            else None
        )
        self.shift_conv = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        made = self.resblocks_3d_temporal(x, time)
        if self.resblocks_3d_spatial is not None:
            made = self.resblocks_3d_spatial(made, time)
        return x + self.shift_conv(made)


class RelativePositionBias(nn.Module):
    """A learned score for every distance in time and head, in logarithmic buckets (T5's)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(BUCKETS, heads)

    def forward(self, frames: int, device: torch.device) -> Tensor:
        """Scores `[heads, T, T]` of queries (rows) and keys."""
        at = torch.arange(frames, device=device)
        distance = at[:, None] - at[None]
        side, exact = BUCKETS // 2, BUCKETS // 4
        far = distance.abs()
        growth = (far.clamp(min=1).float() / exact).log() / math.log(FAR / exact)
        large = (exact + (growth * (side - exact)).long()).clamp(max=side - 1)
        buckets = torch.where(far < exact, far, large) + side * (distance < 0)
        return self.relative_attention_bias(buckets).permute(2, 0, 1)


class TemporalAttention(nn.Module):
    """Self-attention of each position over time, with rotary and relative positions."""

    def __init__(self, channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        inner = heads * head_channels
        self.heads, self.rotated = heads, min(ROTARY, head_channels)
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(channels, inner, bias=False)
        self.to_v = nn.Linear(channels, inner, bias=False)
        self.to_out = nn.ModuleList([zeroed(nn.Linear(inner, channels))])
        self.time_rel_pos_bias = RelativePositionBias(heads)

    def forward(self, x: Tensor) -> Tensor:
        """`x` `[N, T, C]`."""
        heads = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self._qkv(x))
        q, k, v = heads
        bias = self.time_rel_pos_bias(x.shape[1], x.device).to(q.dtype)
        made = F.scaled_dot_product_attention(self._rotate(q), self._rotate(k), v, attn_mask=bias)
        return self.to_out[0](made.transpose(1, 2).flatten(2))

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.to_q(x), self.to_k(x), self.to_v(x)

    def _rotate(self, x: Tensor) -> Tensor:
        """Rotary positions in time (Su et al. 2021), neighbouring channels in pairs."""
        part, rest = x[..., : self.rotated], x[..., self.rotated :]
        exponent = torch.arange(0, self.rotated, 2, device=x.device).float() / self.rotated
        angle = torch.arange(x.shape[-2], device=x.device).float()[:, None] * 10000.0**-exponent
        cos, sin = (a.repeat_interleave(2, dim=-1).to(x.dtype) for a in (angle.cos(), angle.sin()))
        turned = torch.stack([-part[..., 1::2], part[..., ::2]], dim=-1).flatten(-2)
        return torch.cat([part * cos + turned * sin, rest], dim=-1)
