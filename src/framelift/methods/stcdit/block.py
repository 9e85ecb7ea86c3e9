"""A block of Wan's transformer that takes anchors behind the video's tokens."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn

from framelift.methods.stcdit.anchors import AnchorConvFusion

Rope = tuple[Tensor, Tensor]


class AnchorGate(nn.Module):
    """What the video's tokens take from anchors in self-attention: a factor a head, 0 at first."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads))

    def forward(self, alone: Tensor, joint: Tensor) -> Tensor:
        """From attention of the video alone (0) to the joint one (1), both `[B, heads, N, d]`."""
        return alone + self.weight.to(alone.dtype)[:, None, None] * (joint - alone)


class AnchoredWanBlock(WanTransformerBlock):
    """Wan's block, with anchors behind the video where there are any.

    `anchor_gate` joins the two in self-attention (None: as all tokens), `acfm` in the feed-forward
    network. A module with weights is called, never reached into: offloading and sharding bring
    weights where they are needed when their module is called.
    """

    anchor_gate: AnchorGate | None
    acfm: AnchorConvFusion | None

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        v: Tensor,
        a: Tensor,
        text: Tensor,
        modulation: Tensor,
        rope: Rope,
        anchor_frames: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """What follows on the video's tokens `v` `[B, f·h·w, d]` and the anchors' `a`
        `[B or 1, k·h·w, d]`; `size` is (h, w).
        """
        count = v.shape[1]
        table = self.scale_shift_table + modulation.float()
        shift, scale, share, ffn_shift, ffn_scale, ffn_share = table.chunk(6, dim=1)
        x = torch.cat([v, a.to(v.dtype).expand(len(v), -1, -1)], dim=1)
        inputs = (self.norm1(x.float()) * (1 + scale) + shift).type_as(x)
        if self.anchor_gate is None or x.shape[1] == count:
            seen = self.attn1(inputs, None, None, rope)
        else:
            seen = gated_attention(self.attn1, inputs, rope, count, self.anchor_gate)
        x = (x.float() + seen * share).type_as(x)
        v, a = x[:, :count], x[:, count:]
        v = v + self.attn2(self.norm2(v.float()).type_as(v), text, None, None)
        x = torch.cat([v, a], dim=1)
        inputs = (self.norm3(x.float()) * (1 + ffn_scale) + ffn_shift).type_as(x)
        made = self._feed_forward(inputs, count, anchor_frames, size)
        x = (x.float() + made.float() * ffn_share).type_as(x)
        return x[:, :count], x[:, count:]

    def _feed_forward(
        self, x: Tensor, count: int, anchor_frames: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Wan's feed-forward network with ACFM between its first layer and the activation."""
        layers: Any = self.ffn.net
        first, dropout, last = layers
        h = first.proj(x)
        if self.acfm is not None and x.shape[1] > count:
            h = torch.cat(self.acfm(h[:, :count], h[:, count:], anchor_frames, size), dim=1)
        return last(dropout(first.gelu(h)))


def extend_block(block: Any, anchor_gate: AnchorGate | None, acfm: AnchorConvFusion | None) -> None:
    """Make Wan's block an `AnchoredWanBlock`; its weights stay."""
    block.__class__ = AnchoredWanBlock
    block.anchor_gate, block.acfm = anchor_gate, acfm


def gated_attention(attention: Any, x: Tensor, rope: Rope, count: int, gate: AnchorGate) -> Tensor:
    """Wan's self-attention, whose first `count` tokens see the rest as far as `gate` lets them."""
    heads = (attention.heads, -1)
    q = rotate(attention.norm_q(attention.to_q(x)).unflatten(2, heads), rope)
    k = rotate(attention.norm_k(attention.to_k(x)).unflatten(2, heads), rope)
    q, k, v = (t.transpose(1, 2) for t in (q, k, attention.to_v(x).unflatten(2, heads)))
    q, k = q.to(v.dtype), k.to(v.dtype)
    joint = F.scaled_dot_product_attention(q, k, v)
    alone = F.scaled_dot_product_attention(q[:, :, :count], k[:, :, :count], v[:, :, :count])
    out = torch.cat([gate(alone, joint[:, :, :count]), joint[:, :, count:]], dim=2)
    return attention.to_out[1](attention.to_out[0](out.transpose(1, 2).flatten(2)))


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Rotary position embedding of `x` `[B, N, heads, d]`, neighbours paired, as Wan's."""
    cos, sin = rope[0][..., 0::2], rope[1][..., 1::2]
    x1, x2 = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([x1 * cos - x2 * sin, x1 * sin + x2 * cos], dim=-1)
    return turned.flatten(-2).type_as(x)
