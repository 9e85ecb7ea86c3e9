"""Decimation without antialiasing (DUF, BasicSR: the second half of BD)."""

from dataclasses import dataclass

from framelift.degrade.stages.base import Drawn, Frames, Sizes, Stage


@dataclass(frozen=True)
class Stride(Stage):
    """Keep every n-th pixel, n being the scale; no antialiasing."""

    def apply(self, drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
        from framelift.degrade.ops import stride

        return ((index, stride(x, sizes.scale)) for index, x in frames)
