"""SATeCo's video upscaler (section 3.1): from the LR clip to X_u, trained by itself first."""

from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from framelift.methods.sateco.layers import ResidualBlock, zeroed
from framelift.methods.sateco.tmsa import TMSA
from framelift.ops import resize


class VideoUpscaler(ModelMixin, ConfigMixin):
    """Cascaded TMSA blocks and pixel shuffle, added to the bicubic enlargement.

    The defaults are the paper's with VRT's sizes: two blocks on every LR pixel, the second one
    shifted. `kind="pixelshuffle"` leaves the blocks out (Table 3): convolutions of single frames.
    With `stride` 2 the blocks see 2×2 pixels as one token, at a quarter of the cost and with
    twice the reach; `residual_depth` blocks of two 3×3 convolutions then work on LR pixels.
    At initialisation the result is the bicubic enlargement.
    """

    @register_to_config
    def __init__(
        self,
        kind: Literal["tmsa", "pixelshuffle"] = "tmsa",
        scale: int = 4,
        width: int = 120,
        heads: int = 6,
        depth: int = 2,
        window: int = 8,
        mlp_ratio: float = 2.0,
        stride: int = 1,
        features: int | None = None,
        residual_depth: int = 0,
        shuffle: tuple[int, ...] = (64, 64),
    ) -> None:
        super().__init__()
        self.scale, self.stride = scale, stride
        features = features or width
        self.stem = nn.Conv2d(3, features, 3, padding=1)
        self.blocks = nn.ModuleList()
        if kind == "tmsa":
            self.embed, self.unembed = nn.Identity(), nn.Identity()
            if stride > 1 or features != width:
                self.embed = nn.Conv2d(features, width, stride, stride)
                self.unembed = nn.Sequential(
                    nn.Conv2d(width, features * stride**2, 1), nn.PixelShuffle(stride)
                )
            self.blocks.extend(
                TMSA(width, heads, window, mlp_ratio, shifted=n % 2 == 1) for n in range(depth)
            )
        self.residual_blocks = nn.ModuleList(ResidualBlock(features) for _ in range(residual_depth))
        self.head = _shuffle_stages(features, tuple(shuffle), scale)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge clips `[..., T, 3, h, w]` in [0, 1]; not clamped."""
        clips = lr.reshape(-1, *lr.shape[-4:])
        batch, frames, _, height, width = clips.shape
        pictures = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = self.stem(pictures - 0.5)
        if len(self.blocks):
            bottom, right = -height % self.stride, -width % self.stride
            tokens = self.embed(F.pad(x, (0, right, 0, bottom), mode="replicate"))
            tokens = tokens.permute(0, 2, 3, 1).unflatten(0, (batch, frames))
            for block in self.blocks:
                tokens = block(tokens)
            tokens = self.unembed(tokens.flatten(0, 1).permute(0, 3, 1, 2))
            x = x + tokens[..., :height, :width]
        for block in self.residual_blocks:
            x = block(x)
        big = self.head(x) + resize.upscale(pictures, self.scale)
        return big.reshape(*lr.shape[:-2], *big.shape[-2:])


def _shuffle_stages(features: int, shuffle: tuple[int, ...], scale: int) -> nn.Sequential:
    """Convolution, ×2 pixel-shuffle stages of the given widths, convolution to RGB.

    Without widths one shuffle enlarges the three channels at once.
    """
    if not shuffle:
        last = zeroed(nn.Conv2d(features, 3 * scale**2, 3, padding=1))
        layers: list[nn.Module] = [last, nn.PixelShuffle(scale)]
    else:
        if 2 ** len(shuffle) != scale:
            raise ValueError(f"{len(shuffle)} pixel-shuffle stages do not enlarge by {scale}")
        layers = [nn.Conv2d(features, shuffle[0], 3, padding=1), nn.LeakyReLU(0.1)]
        for now, new in zip(shuffle, (*shuffle[1:], shuffle[-1]), strict=True):
            layers += [
                nn.Conv2d(now, 4 * new, 3, padding=1),
                nn.PixelShuffle(2),
                nn.LeakyReLU(0.1),
            ]
        layers.append(zeroed(nn.Conv2d(shuffle[-1], 3, 3, padding=1)))
    return nn.Sequential(*layers)
