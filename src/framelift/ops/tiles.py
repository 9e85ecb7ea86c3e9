"""Spatial tiles: where they lie on LR frames and how their outputs blend."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Span = tuple[int, int]  # start, length
Fades = dict[Span, Tensor]


@dataclass(frozen=True)
class Tile:
    """A rectangle of an LR frame, in LR pixels."""

    y: int
    x: int
    height: int
    width: int

    def crop(self, frames: Tensor) -> Tensor:
        """The tile's view of `frames` `[..., h, w]`."""
        return frames[..., self.y : self.y + self.height, self.x : self.x + self.width]


def plan_tiles(height: int, width: int, tile: int, overlap: int, multiple: int = 1) -> list[Tile]:
    """Equal tiles, row by row, that cover a frame and lie evenly on it.

    No side is longer than `tile`, neighbours share at least `overlap`, and origins and sizes are
    multiples of `multiple`, which must divide `height` and `width`. To that end `tile` is rounded
    down to a multiple (to one at least) and `overlap` up, as far as it stays below the tile.
    """
    if min(height, width, tile, multiple) < 1:
        raise ValueError(f"sizes must be positive: {height}×{width}, {tile}, {multiple}")
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be at least 0 and less than the tile: {overlap}, {tile}")
    if height % multiple or width % multiple:
        raise ValueError(f"{height}×{width} is not a multiple of {multiple}")
    side = max(1, tile // multiple)
    shared = min(-(-overlap // multiple), side - 1)
    rows, columns = (_spans(length // multiple, side, shared) for length in (height, width))
    return [
        Tile(y * multiple, x * multiple, h * multiple, w * multiple)
        for y, h in rows
        for x, w in columns
    ]


def tile_weights(tile: Tile, tiles: Sequence[Tile], scale: int = 1) -> Tensor:
    """Blend weights `[1, 1, height·scale, width·scale]` of one tile of a plan, float32.

    The weights of all `tiles` sum to one at every pixel, and are exactly 1 where only one tile
    lies. They rise along a raised cosine over the middle half of an overlap, so that a tile's
    outermost pixels, which saw the padding of convolutions, count next to nothing.
    """
    return _weights(tile, _axes(tiles, scale))


def blend_tiles(
    fn: Callable[[Tensor, Tile], Tensor], frames: Tensor, tiles: Sequence[Tile], scale: int
) -> Tensor:
    """Apply `fn` to every tile of `frames` `[T, C, h, w]` and blend the outputs, float32.

    `fn` gets the tile's view and the tile, and returns `[T, C', height·scale, width·scale]`. The
    result lies on the device of its outputs; beside it only one output is held at a time.
    """
    size = [side * scale for side in frames.shape[-2:]]
    covered = [max(t.y + t.height for t in tiles), max(t.x + t.width for t in tiles)]
    if covered != list(frames.shape[-2:]):
        raise ValueError(f"tiles for {covered} do not fit frames of {list(frames.shape[-2:])}")
    axes = _axes(tiles, scale)
    blended: Tensor | None = None
    for tile in tiles:
        output = fn(tile.crop(frames), tile).float()
        if output.shape[-2:] != (tile.height * scale, tile.width * scale):
            raise ValueError(f"{tile} at scale {scale} gave an output of {list(output.shape)}")
        if len(tiles) == 1:
            return output
        if blended is None:
            blended = output.new_zeros(*output.shape[:-2], *size)
        place = Tile(*(scale * side for side in (tile.y, tile.x, tile.height, tile.width)))
        place.crop(blended).addcmul_(output, _weights(tile, axes).to(output.device))
        del output  # or it would live on while the next is made
    assert blended is not None
    return blended


def _spans(length: int, side: int, shared: int) -> list[Span]:
    """The fewest equal spans of at most `side` that cover `length`, as short as they may be."""
    if length <= side:
        return [(0, length)]
    count = math.ceil((length - shared) / (side - shared))
    side = math.ceil((length - shared) / count) + shared
    return [(i * (length - side) // (count - 1), side) for i in range(count)]


def _axes(tiles: Sequence[Tile], scale: int) -> tuple[Fades, Fades]:
    """The weights along y and x: those of a tile are their product."""
    rows = _fades({(t.y, t.height) for t in tiles}, scale)
    return rows, _fades({(t.x, t.width) for t in tiles}, scale)


def _weights(tile: Tile, axes: tuple[Fades, Fades]) -> Tensor:
    rows, columns = axes[0][tile.y, tile.height], axes[1][tile.x, tile.width]
    return (rows[:, None] * columns).float()[None, None]


def _fades(spans: set[Span], scale: int) -> Fades:
    """Weights `[length·scale]` of the spans of an axis, float64; they sum to one everywhere."""
    ordered = sorted(spans)
    weights = {span: torch.ones(span[1] * scale, dtype=torch.float64) for span in ordered}
    for before, after in pairwise(ordered):
        shared = (before[0] + before[1] - after[0]) * scale
        if shared > 0:
            weights[before][-shared:] *= _rise(shared).flip(0)
            weights[after][:shared] *= _rise(shared)
    total = torch.zeros(max(map(sum, ordered)) * scale, dtype=torch.float64)
    for (start, _), weight in weights.items():
        total[start * scale :][: len(weight)] += weight
    for (start, _), weight in weights.items():
        weight /= total[start * scale :][: len(weight)]
    return weights


def _rise(length: int) -> Tensor:
    """A raised cosine from almost 0 to almost 1, flat in the first and the last quarter."""
    position = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    ramp = (2 * position - 0.5).clamp(0, 1)
    return (torch.sin(ramp * math.pi / 2) ** 2).clamp(1e-3, 1 - 1e-3)
