"""SATeCo's video refiner (section 3.4): the decoded video tied to the enlarged input."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from framelift.methods.sateco.layers import ResidualBlock, zeroed


class VideoRefiner(ModelMixin, ConfigMixin):
    """X_H = w·X_u + (1 − w)·X_d + ResBlock([X_u, X_d]) (eq. 5).

    The residual block of `width` channels stands between two convolutions; the last one is zero
    at initialisation, so that X_H is first the weighted mean. With `stride` s they see s×s pixels
    as one position, at 1/s² of the cost.
    """

    @register_to_config
    def __init__(self, w: float = 0.5, width: int = 64, stride: int = 1) -> None:
        super().__init__()
        if not 0 <= w <= 1:
            raise ValueError(f"w is {w}, but must lie in 0 to 1")
        self.w = w
        self.block = nn.Sequential(
            nn.PixelUnshuffle(stride),
            nn.Conv2d(6 * stride**2, width, 3, padding=1),
            ResidualBlock(width),
            zeroed(nn.Conv2d(width, 3 * stride**2, 3, padding=1)),
            nn.PixelShuffle(stride),
        )

    def forward(self, x_u: Tensor, x_d: Tensor) -> Tensor:
        """X_u and X_d `[N, 3, H, W]`, in one range of values → X_H in the same."""
        mean = self.w * x_u + (1 - self.w) * x_d
        return mean + self.block(torch.cat([x_u, x_d], 1))
