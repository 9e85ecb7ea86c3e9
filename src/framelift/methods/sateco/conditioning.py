"""SFA and TFA: how features of the LR video guide a frozen decoder (sections 3.2 and 3.3).

f are the decoder's features, g those of the LR video at the same scale, `[B·L, C, H, W]` with the
L frames of a clip side by side.

At initialisation: the zero convolution (Table 2, model A) and TFA are the identity. SFA as
printed is the plain normalisation (S = 1, M = 0), which takes from f its mean and deviation; with
`residual` it is the identity.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.methods.sateco.layers import zeroed
from framelift.methods.sateco.windows import attend, join, split

Guidance = Literal["zero-convolution", "sfa", "sfa-tfa"]
Norm = Literal["instance", "group"]


class ZeroConvolution(nn.Module):
    """f + Conv2D(g) with the convolution at zero (Table 2, model A)."""

    def __init__(self, channels: int, guidance: int) -> None:
        super().__init__()
        self.conv = zeroed(nn.Conv2d(guidance, channels, 1))

    def forward(self, f: Tensor, g: Tensor) -> Tensor:
        return f + self.conv(g)


class SFA(nn.Module):
    """Spatial feature adaptation: f̃ = S(g) ⊙ (f − μ)/σ + M(g) (eq. 1 and 2).

    μ and σ are those of each frame and channel ("instance") or of each frame and group of
    channels ("group"). With `residual`, f̃ = f + S(g) ⊙ (f − μ)/σ + M(g).
    """

    def __init__(
        self,
        channels: int,
        guidance: int,
        norm: Norm = "instance",
        groups: int = 32,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.groups = channels if norm == "instance" else groups
        self.residual = residual
        self.shift = zeroed(nn.Conv2d(guidance, channels, 3, padding=1))
        self.scale = zeroed(nn.Conv2d(guidance, channels, 3, padding=1))
        if not residual and self.scale.bias is not None:
            nn.init.ones_(self.scale.bias)

    def forward(self, f: Tensor, g: Tensor) -> Tensor:
        normalised = F.group_norm(f.float(), self.groups).to(f.dtype)
        modulated = self.scale(g) * normalised + self.shift(g)
        return f + modulated if self.residual else modulated


class TFA(nn.Module):
    """Temporal feature alignment in tubelets of `window`² positions over all L frames.

    F̂ = F̃ + P(Attention(Q, K, V)), self-attention in the tubelet (eq. 3), then
    F̄ = F̂ + P'(Attention(Q', K', V')), cross-attention with the LR tubelet G (eq. 4). The paper
    shows no sums and no projections P; both are at zero first, so that a frozen decoder begins
    undisturbed. Convolutions of `kernel`³ see their own tubelet only.

    Areas of `chunk`² windows are worked on one after the other, which bounds the memory at full
    size and changes nothing else; 0 takes everything at once.
    """

    def __init__(
        self,
        channels: int,
        guidance: int,
        window: int = 8,
        heads: int = 8,
        kernel: int = 1,
        chunk: int = 8,
    ) -> None:
        super().__init__()
        self.window, self.heads, self.chunk = window, heads, chunk
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Callable[..., Tensor] | None = None
        self.qkv = nn.Conv3d(channels, 3 * channels, kernel, padding=kernel // 2)
        self.project = zeroed(nn.Conv3d(channels, channels, 1))
        self.query = nn.Conv3d(channels, channels, kernel, padding=kernel // 2)
        self.key_value = nn.Conv3d(guidance, 2 * channels, kernel, padding=kernel // 2)
        self.project_cross = zeroed(nn.Conv3d(channels, channels, 1))

    def forward(self, f: Tensor, g: Tensor, frames: int) -> Tensor:
        """f `[B·L, C, H, W]`, g `[B·L, C', H, W]`, L = `frames` ≥ 1; H and W of any size."""
        f, g = (x.unflatten(0, (-1, frames)) for x in (f, g))
        side = self.window * self.chunk or max(f.shape[-2:])
        bands = []
        for y in range(0, f.shape[-2], side):
            areas = [
                self._area(*(v[..., y : y + side, x : x + side] for v in (f, g)))
                for x in range(0, f.shape[-1], side)
            ]
            bands.append(torch.cat(areas, -1))
        return torch.cat(bands, -2).flatten(0, 1)

    def _area(self, f: Tensor, g: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            assert self._gradient_checkpointing_func is not None
            return self._gradient_checkpointing_func(self._align, f, g)
        return self._align(f, g)

    def _align(self, f: Tensor, g: Tensor) -> Tensor:
        """Both attentions in the windows of an area, `[B, L, C, H, W]`."""
        size = (f.shape[-2], f.shape[-1])
        (hr, mask), (lr, _) = (split(x.movedim(2, -1), self.window) for x in (f, g))
        hr, lr = hr.movedim(-1, 1), lr.movedim(-1, 1)  # [windows, C, L, M, M]
        keys = None if mask is None else mask.flatten(1).repeat(1, f.shape[1])
        q, k, v = self.qkv(hr).chunk(3, 1)
        hr = hr + self.project(self._attend(q, k, v, keys))
        if mask is not None:  # a wider kernel sees zeros outside, as at the tubelet's border
            hr = hr * (mask == 0)[:, None, None]
        k, v = self.key_value(lr).chunk(2, 1)
        hr = hr + self.project_cross(self._attend(self.query(hr), k, v, keys))
        return join(hr.movedim(1, -1), size).movedim(-1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        size = q.shape
        q, k, v = (x.flatten(2).transpose(1, 2) for x in (q, k, v))
        return attend(q, k, v, self.heads, mask).transpose(1, 2).reshape(size)


class FeatureGuidance(nn.Module):
    """What stands at the end of one decoder block: nothing but a zero convolution, SFA, or both."""

    def __init__(
        self,
        channels: int,
        guidance: int,
        kind: Guidance = "sfa-tfa",
        norm: Norm = "instance",
        groups: int = 32,
        residual: bool = False,
        window: int = 8,
        heads: int = 8,
        kernel: int = 1,
        chunk: int = 8,
    ) -> None:
        super().__init__()
        if kind == "zero-convolution":
            self.sfa: ZeroConvolution | SFA = ZeroConvolution(channels, guidance)
        else:
            self.sfa = SFA(channels, guidance, norm, groups, residual)
        self.tfa = None
        if kind == "sfa-tfa":
            self.tfa = TFA(channels, guidance, window, heads, kernel, chunk)

    def forward(self, f: Tensor, g: Tensor, frames: int) -> Tensor:
        """f `[B·frames, C, H, W]` and g `[B·frames, C', H, W]` of the same size → f's shape."""
        f = self.sfa(f, g)
        return f if self.tfa is None else self.tfa(f, g, frames)
