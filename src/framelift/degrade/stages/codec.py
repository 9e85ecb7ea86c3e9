"""The clip encoded by a real video encoder, and decoded."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from framelift.degrade.stages.base import (
    Drawn,
    Frames,
    Parameters,
    Range,
    Sizes,
    Stage,
    Weights,
    check_ranges,
    check_weights,
    choose,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Codec(Stage):
    """The clip encoded by a real video encoder, and decoded."""

    probability: float = 1.0
    """How many clips are compressed at all."""
    codecs: Weights = field(default_factory=lambda: {"h264": 1.0})
    """Weights of h264, hevc and mpeg4."""
    bit_rate: Range | None = None
    """Bits a second, for frames of `pixels`."""
    crf: Range | None = None
    """Constant-quality level instead (mpeg4: quantiser)."""
    rate: float = 1.0
    """Frames a second that the encoder is told; at 1 the bit rate is bits a frame."""
    pixels: int = 256 * 256
    """Size of the high-resolution frames that `bit_rate` is meant for; it grows in proportion for
    larger ones and shrinks for smaller ones. 0 takes it as it is."""

    def __post_init__(self) -> None:
        check_weights(self, codecs=("h264", "hevc", "mpeg4"))
        check_ranges(self, probability=(0, 1), bit_rate=(1, 1e12), crf=(0, 63), rate=(1e-3, 1000))
        if (self.bit_rate is None) == (self.crf is None):
            raise ValueError("a codec needs bit_rate or crf, and not both")

    def draw(self, rng: np.random.Generator, scale: int) -> Parameters:
        name, limits = ("bit_rate", self.bit_rate) if self.bit_rate else ("crf", self.crf)
        codec = choose(self.codecs, rng)
        return {"codec": codec, name: float(rng.uniform(*limits or (0, 0)))}, {}

    def apply(self, drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
        from framelift.degrade.ops import from_bytes, rescale, straight_through
        from framelift.images import to_rgb
        from framelift.video.reencode import reencode

        values = drawn.values
        held: deque[tuple[int, Tensor]] = deque()
        size: list[tuple[int, int]] = []

        def feed() -> Iterator[np.ndarray]:
            for index, x in frames:
                size[:] = size or [(x.shape[-2], x.shape[-1])]
                x = rescale(x, size[0], "bilinear")  # a drifting factor changes sizes by frame
                held.append((index, x if x.requires_grad else x[:0]))
                yield to_rgb(x[0].detach())

        share = sizes.high[0] * sizes.high[1] / self.pixels if self.pixels else 1.0
        bits = values["bit_rate"] * share if "bit_rate" in values else None
        for rgb in reencode(
            feed(), values["codec"], bit_rate=bits, crf=values.get("crf"), rate=self.rate
        ):
            index, x = held.popleft()
            yield index, straight_through(from_bytes(rgb, x)[None], x)
        assert not held, f"{values['codec']} lost {len(held)} frames"
