"""An `AutoencoderKL` without statistics over the whole frame.

Group normalisation divides by the deviation of a frame's features. Where frames are mostly empty
that makes every pixel depend on all others, and gradients through the decoder, which posterior
sampling follows, lead astray. Here every pixel is normalised by itself, over its channels.
"""

from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn


class LocalAutoencoderKL(AutoencoderKL):
    """`AutoencoderKL` whose norms see one pixel; same arguments, same names of parameters."""

    @wraps(AutoencoderKL.__init__)  # diffusers reads the arguments' names from the signature
    def __init__(self, *args: Any, **config: Any) -> None:
        super().__init__(*args, **config)
        for parent in list(self.modules()):
            for name, module in parent.named_children():
                if isinstance(module, nn.GroupNorm):
                    setattr(parent, name, PixelNorm(module.num_channels))


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
