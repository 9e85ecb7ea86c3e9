"""Frames saved as JPEG, one by one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from framelift.degrade.stages.base import (
    Drawn,
    Frames,
    Parameters,
    Range,
    Sizes,
    Stage,
    check_ranges,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Jpeg(Stage):
    """Every frame saved as JPEG."""

    probability: float = 1.0
    """How many clips are compressed at all."""
    quality: Range = (30.0, 95.0)
    """JPEG quality, 1 to 100."""
    quality_step: float = 0.0
    """Drift of the quality by frame."""

    def __post_init__(self) -> None:
        check_ranges(self, probability=(0, 1), quality=(1, 100))

    def draw(self, rng: np.random.Generator, scale: int) -> Parameters:
        drift = {"quality": (self.quality, self.quality_step)}
        return {"quality": float(rng.uniform(*self.quality))}, drift

    def apply(self, drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
        for index, x, values in drawn.drifting(frames):
            yield index, jpeg(x, round(values["quality"]))


def jpeg(x: "Tensor", quality: int) -> "Tensor":
    """Save and load every frame of `x` `[T, 3, H, W]` as JPEG (OpenCV, 4:2:0), `quality` 1..100.

    The gradient passes straight through.
    """
    import torch

    from framelift.degrade.ops import straight_through

    return straight_through(torch.stack([_jpeg(frame, quality) for frame in x]), x)


def _jpeg(frame: "Tensor", quality: int) -> "Tensor":
    from framelift.degrade.ops import from_bytes
    from framelift.images import to_rgb

    bgr = np.ascontiguousarray(to_rgb(frame.detach())[..., ::-1])
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert encoded
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return from_bytes(np.ascontiguousarray(decoded[..., ::-1]), frame)
