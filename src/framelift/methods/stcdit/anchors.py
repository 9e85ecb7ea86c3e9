"""What anchors pass through: AFR makes tokens of their latents, ACFM gives to the video's features.

An anchor is the LQ video's latent of a segment's first frame, which no other frame is mixed into.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Fusion = Literal["none", "dwconv", "acfm"]


class AnchorFrameRefinement(nn.Module):
    """AFR (eq. 1): latents `[B, c, k, h, w]` → tokens `[B, k·h·w/4, dim]`.

    A fine branch looks at the latents' own resolution, a coarse one is cut as the base's patches
    are, by the base's own weights at first. They are weighted, and what is made of them is added to
    the coarse branch; its last convolution is zero at first, and only that: were the weights zero
    too, as in the released code, no gradient would reach anything but one bias.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(channels, dim, 1), nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        )
        self.coarse = nn.Conv2d(channels, dim, 2, stride=2)
        self.weights = nn.Parameter(torch.ones(2))
        self.project = nn.Conv2d(dim, dim, 1)
        self.out = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(bias_of(self.out))

    @torch.no_grad()
    def copy_patches(self, patches: nn.Conv3d) -> None:
        """Cut as `patches` cuts the noisy latents, its first input channels."""
        self.coarse.weight.copy_(patches.weight[:, : self.coarse.in_channels, 0])
        bias_of(self.coarse).copy_(bias_of(patches))

    def forward(self, latents: Tensor) -> Tensor:
        number = latents.shape[2]
        x = latents.transpose(1, 2).flatten(0, 1)
        coarse = self.coarse(x)
        share = F.relu(self.weights)
        share = share / (share.sum() + 1e-6)
        mixed = share[0] * F.max_pool2d(self.fine(x), 2) + share[1] * coarse
        tokens = coarse + self.out(self.project(F.silu(mixed)))
        return tokens.unflatten(0, (-1, number)).flatten(3).permute(0, 1, 3, 2).flatten(1, 2)


class PlainPatches(nn.Module):
    """Anchors without AFR (Table 3, "first frames in self-attention"): the coarse branch alone."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(channels, dim, 2, stride=2)

    copy_patches = AnchorFrameRefinement.copy_patches

    def forward(self, latents: Tensor) -> Tensor:
        tokens = self.coarse(latents.transpose(1, 2).flatten(0, 1))
        return (
            tokens.unflatten(0, (-1, latents.shape[2])).flatten(3).permute(0, 1, 3, 2).flatten(1, 2)
        )


class AnchorConvFusion(nn.Module):
    """ACFM, inside every feed-forward network, between its first linear layer and the activation.

    D = A + dw(A) goes on as the anchors' features; S = D ⊙ GELU(dw(D)) is added to the frames that
    the anchors were taken from; then V + dw(V). All three depthwise 3×3 convolutions are zero at
    first, so that nothing changes. `kind` "dwconv" leaves S out (Table 3).
    """

    def __init__(self, dim: int, kind: Fusion = "acfm") -> None:
        super().__init__()
        self.anchor = _depthwise(dim)
        self.gate = _depthwise(dim) if kind == "acfm" else None
        self.video = _depthwise(dim)

    def forward(
        self, video: Tensor, anchor: Tensor, frames: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """`video` `[B, f·h·w, dim]`, `anchor` `[B, k·h·w, dim]`; `frames` `[k]` says where each is
        from.

        `size` is (h, w).
        """
        v, a = _maps(video, size), _maps(anchor, size)
        d = a + self.anchor(a)
        if self.gate is not None:
            s = (d * F.gelu(self.gate(d))).unflatten(0, (len(video), -1))
            v = v.unflatten(0, (len(video), -1)).index_add(1, frames, s.to(v.dtype)).flatten(0, 1)
        v = v + self.video(v)
        return _tokens(v, len(video)), _tokens(d, len(video))


def _depthwise(dim: int) -> nn.Conv2d:
    conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(bias_of(conv))
    return conv


def bias_of(conv: nn.Module) -> Tensor:
    """The bias of a convolution that has one."""
    assert isinstance(conv.bias, Tensor)
    return conv.bias


def _maps(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """`[B, n·h·w, d]` → `[B·n, d, h, w]`."""
    return tokens.reshape(-1, *size, tokens.shape[-1]).permute(0, 3, 1, 2)


def _tokens(maps: Tensor, batch: int) -> Tensor:
    """The other way."""
    return maps.permute(0, 2, 3, 1).reshape(batch, -1, maps.shape[1])
