"""Tiles of latents in space and time, merged inside every sampling step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

VARIANCE = 0.01  # of the Gaussian weights, where a tile's side is 1


@dataclass(frozen=True)
class LatentTile:
    """A block of latents: where it begins and how long it is, in time and space."""

    t: int
    y: int
    x: int
    frames: int
    height: int
    width: int

    def crop(self, latents: Tensor) -> Tensor:
        """The tile's view of `latents` `[..., F, h, w]`."""
        rows = slice(self.y, self.y + self.height)
        columns = slice(self.x, self.x + self.width)
        return latents[..., self.t : self.t + self.frames, rows, columns]

    def weights(self) -> Tensor:
        """Gaussian weights `[frames, height, width]`, float32, largest in the middle."""
        t, y, x = (_bell(side) for side in (self.frames, self.height, self.width))
        return t[:, None, None] * y[:, None] * x


def plan_latent_tiles(
    size: Sequence[int], tile: Sequence[int], stride: float, multiple: int = 2
) -> list[LatentTile]:
    """Tiles of at most `tile` latents that cover `size`, both (frames, rows, columns).

    Neighbours begin at most `stride` times a tile's side apart; in space, where `multiple` latents
    are a patch, they begin at multiples of it.
    """
    frames, rows, columns = (
        _spans(length, side, stride, step)
        for length, side, step in zip(size, tile, (1, multiple, multiple), strict=True)
    )
    return [
        LatentTile(t, y, x, f, h, w) for (t, f), (y, h), (x, w) in product(frames, rows, columns)
    ]


def merge(
    velocity: Callable[[LatentTile], Tensor], tiles: Sequence[LatentTile], like: Tensor
) -> Tensor:
    """The weighted mean of the tiles' velocities; that of a single tile as it is."""
    if len(tiles) == 1:
        return velocity(tiles[0])
    total, weight = torch.zeros_like(like), torch.zeros_like(like[:1, :1])
    for tile in tiles:
        bell = tile.weights().to(like)
        tile.crop(total).add_(velocity(tile) * bell)
        tile.crop(weight).add_(bell)
    return total / weight


def _bell(side: int) -> Tensor:
    """A Gaussian over the middles of `side` latents; float32 holds what is far from the middle."""
    place = (torch.arange(side) + 0.5) / side - 0.5
    return torch.exp(-(place**2) / (2 * VARIANCE))


def _spans(length: int, side: int, stride: float, multiple: int) -> list[tuple[int, int]]:
    """Equal spans (start, length) that cover `length`; the last one ends with it."""
    side = max(multiple, side // multiple * multiple)
    if length <= side:
        return [(0, length)]
    step = max(multiple, int(side * stride) // multiple * multiple)
    starts = list(range(0, length - side, step))
    return [(start, side) for start in [*starts, length - side]]
