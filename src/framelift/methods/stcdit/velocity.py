"""What the transformer is told beside noisy latents, and what its output says of the velocity."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framelift.diffusion.parameterisation import like
from framelift.methods.stcdit.latent_tiles import LatentTile


@dataclass(frozen=True)
class Condition:
    """LQ latents `y` `[B, c, F, h, w]`, which of them guide, and the text `[1 or 2, n, d]`."""

    y: Tensor
    frames: Sequence[int]
    """Anchors, as indices of latents of `y`; none: no guidance."""
    text: Tensor

    def at(self, tile: LatentTile) -> "Condition":
        """That of a tile; one without anchors of its own is guided by its first latent."""
        last = tile.t + tile.frames
        inside = [i - tile.t for i in self.frames if tile.t <= i < last]
        if self.frames and not inside:
            inside = [0]
        return Condition(tile.crop(self.y), inside, self.text)


class LinearGuess:
    """The best linear guess of the velocity from x_σ and Y, which a network then corrects.

    HR latents differ from Y by something of deviation s. With u = x_σ − (1−σ) Y, which is then of
    variance D = (1−σ)² s² + σ², the velocity n − x₀ is about −Y + (σ − (1−σ) s²) u / D, and what is
    left has the deviation s / √D: that is the unit of the network's output, and u / √D its input
    (after Karras et al. 2022, for flows that start at noise and know Y). A network whose output is
    zero so begins with results like Y. The loss stays the one of the velocity.
    """

    def __init__(self, x_t: Tensor, y: Tensor, sigma: Tensor, std: float) -> None:
        sigma = like(sigma, x_t)
        u = x_t - (1 - sigma) * y
        variance = ((1 - sigma) * std) ** 2 + sigma**2
        self.inputs = u / variance.sqrt()
        self._guess = (sigma - (1 - sigma) * std**2) * u / variance - y
        self._unit = std / variance.sqrt()

    def velocity(self, output: Tensor) -> Tensor:
        """n − x₀ for the network's output."""
        return torch.addcmul(self._guess, self._unit, output)
