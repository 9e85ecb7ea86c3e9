"""Small layers that SATeCo's networks share."""

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

Convolution = TypeVar("Convolution", nn.Conv2d, nn.Conv3d)


class ResidualBlock(nn.Module):
    """x + conv(LeakyReLU(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.leaky_relu(self.conv1(x), 0.1))


def zeroed(layer: Convolution) -> Convolution:
    """The layer, with weights and biases at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
