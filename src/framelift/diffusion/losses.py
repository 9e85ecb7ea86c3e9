"""Losses of pictures: Charbonnier's, LPIPS on VGG16 features (needs the extra `eval`), spectra."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.diffusion.draw import randint
from framelift.weights.torchvision import torchvision_weights

CHARBONNIER = 1e-3
SPECTRAL_FLOOR = 1e-6  # about the power that rounding to 8 bits leaves
LUMA = (0.299, 0.587, 0.114)


def charbonnier(a: Tensor, b: Tensor) -> Tensor:
    """Mean of √((a − b)² + ε²), ε = 10⁻³ in units of [0, 1] (Charbonnier et al. 1994)."""
    return ((a - b).square() + CHARBONNIER**2).sqrt().mean()


def spectral_loss(picture: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of log power spectra of pictures `[N, 3, H, W]` in [-1, 1].

    Of luma under a Hann window, averaged over the batch and 3×3 frequencies. LPIPS asks for
    energy at high frequencies and takes a pattern of one period for it; this sees such a pattern.
    """
    return F.l1_loss(_log_power(picture), _log_power(target))


def _log_power(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    weights = torch.tensor(LUMA, device=x.device)[:, None, None]
    luma = (x.float() * weights).sum(1)  # a product of matrices would be made in half precision
    rows, columns = (torch.hann_window(n, device=x.device) for n in (height, width))
    power = torch.fft.rfft2(luma * rows[:, None] * columns, norm="ortho").abs().square()
    smooth = F.avg_pool2d(power.mean(0)[None, None], 3, 1)
    return (smooth + SPECTRAL_FLOOR).log()


class PerceptualLoss(nn.Module):
    """Mean LPIPS (Zhang et al., CVPR 2018) of random squares of some of the pictures.

    VGG16 costs more than a small UNet.
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
