"""An `AutoencoderKL` without statistics over the whole frame.

Group normalisation divides by the deviation of a frame's features. Where frames are mostly empty
that makes every pixel depend on all others, and gradients through the decoder, which posterior
sampling follows, lead astray. Here every pixel is normalised by itself, over its channels.
"""

import inspect
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from framelift.diffusion.codecs import LatentSpace

FIRST_LOG_VARIANCE = -6.0
"""Of latents at random weights. With a variance of 1, strokes on black drown in it, and the decoder
learns to answer black before the encoder learns anything."""


class LocalAutoencoderKL(AutoencoderKL):
    """`AutoencoderKL` whose norms see one pixel; same arguments, same names of parameters.

    With `patch_size` p, squares of p×p pixels are folded into the channels before the first
    convolution and unfolded behind the last, so that no layer runs at full size; `in_channels` and
    `out_channels` are then 3·p². A latent stands for p·2^(levels - 1) pixels a side.
    """

    def __init__(self, *args: Any, patch_size: int = 1, **config: Any) -> None:
        super().__init__(*args, **config)
        self.register_to_config(patch_size=patch_size)
        if self.quant_conv is not None and self.quant_conv.bias is not None:
            variances = self.quant_conv.bias.chunk(2)[1]
            nn.init.constant_(variances, FIRST_LOG_VARIANCE)
        for parent in list(self.modules()):
            for name, module in parent.named_children():
                if isinstance(module, nn.GroupNorm):
                    setattr(parent, name, PixelNorm(module.num_channels))

    @property
    def latent_space(self) -> LatentSpace:
        """Channels and factor, patches included."""
        levels = len(self.config["block_out_channels"])
        factor = self.config["patch_size"] * 2 ** (levels - 1)
        return LatentSpace(channels=self.config["latent_channels"], factor=factor)

    def encode(self, x: Tensor, return_dict: bool = True) -> Any:
        """The distribution of the latents of frames `[B, 3, H, W]` in [-1, 1]."""
        x = F.pixel_unshuffle(x, self.config["patch_size"])
        return super().encode(cast(Any, x), return_dict)

    def decode(self, z: Tensor, return_dict: bool = True, generator: Any = None) -> Any:
        """Frames, not clamped."""
        made: Any = super().decode(cast(Any, z), return_dict, generator)
        frames = F.pixel_shuffle(made.sample if return_dict else made[0], self.config["patch_size"])
        return type(made)(sample=frames) if return_dict else (frames,)


def _with_patches(original: inspect.Signature) -> inspect.Signature:
    """The arguments of `AutoencoderKL` and `patch_size`: diffusers reads their names from here."""
    own = inspect.Parameter("patch_size", inspect.Parameter.KEYWORD_ONLY, default=1)
    return original.replace(parameters=[*original.parameters.values(), own])


LocalAutoencoderKL.__init__.__signature__ = _with_patches(  # type: ignore[attr-defined]
    inspect.signature(AutoencoderKL.__init__)
)


class PixelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel of `[B, C, H, W]`.

    `eps` is large, so that pixels where nothing happens are not blown up.
    """

    def __init__(self, channels: int, eps: float = 1e-2) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)
        last = F.layer_norm(last, last.shape[-1:], self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)
