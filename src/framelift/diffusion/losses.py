"""LPIPS as a training loss (Zhang et al., CVPR 2018), on VGG16 features. Needs the extra `eval`."""

from typing import Any

import torch
from torch import Tensor, nn

from framelift.diffusion.draw import randint
from framelift.weights.torchvision import torchvision_weights


class PerceptualLoss(nn.Module):
    """Mean LPIPS of random squares of some of the pictures: VGG16 costs more than a small UNet.

    `side` is that of the squares in pixels, `share` the part of a batch that is looked at.
    """

    def __init__(self, side: int = 64, share: float = 1.0) -> None:
        super().__init__()
        with torchvision_weights("LPIPS", "vgg16-*.pth", "set perceptual_weight to 0"):
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            network: Any = LearnedPerceptualImagePatchSimilarity(net_type="vgg").net
        self.network = network.requires_grad_(False).eval()
        self.side, self.share = side, share

    def forward(self, picture: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        """Compare pictures `[N, 3, H, W]` in [-1, 1]; the first ones and one place are drawn."""
        side = min(self.side, *target.shape[-2:])
        y, x = (randint(length - side + 1, generator) for length in target.shape[-2:])
        count = max(1, round(len(target) * self.share))
        part = (slice(count), slice(None), slice(y, y + side), slice(x, x + side))
        return self.network(picture.clamp(-1, 1)[part], target[part]).mean()
