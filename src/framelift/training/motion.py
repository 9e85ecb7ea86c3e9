"""Still pictures seen by a moving camera: clips whose motion is exact and whose content is rich."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

PATHS = 16
"""Cameras a picture."""
PIXELS = 2.0
"""Deviation of a camera's speed in pixels a frame; some stand still, some are twice so fast."""
TURN = ZOOM = 0.003
"""Standard deviations of its turn in radians, and of its relative zoom, a frame."""


@dataclass(frozen=True)
class MovingStill:
    """Frames uint8 `[T, H, W, 3]` of a still picture `[1, H, W, 3]`, made where they are indexed.

    The `number`-th camera moves, turns and zooms at constant rates about the picture's centre,
    which it passes in the middle of the clip.
    """

    picture: Any
    frames: int
    number: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.frames, *self.picture.shape[1:])

    @cached_property
    def _rates(self) -> tuple[np.ndarray, float, float]:
        rng = np.random.default_rng([self.number, *self.picture.shape])
        speed = rng.normal(0, PIXELS, 2) * rng.choice([0.0, 1.0, 2.0], p=[0.15, 0.55, 0.3])
        return speed, rng.normal(0, TURN), rng.normal(0, ZOOM)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        times, rows, columns = (
            range(length)[part] for length, part in zip(self.shape, key, strict=False)
        )
        picture = self.picture[:1, :, :][0]
        made = [self._seen(picture, t, rows, columns) for t in times]
        return np.stack(made)

    def _seen(self, picture: np.ndarray, t: int, rows: range, columns: range) -> np.ndarray:
        """What the camera sees at time `t` of these rows and columns."""
        speed, turn, zoom = self._rates
        t_middle = t - (self.frames - 1) / 2
        c, s = np.cos(turn * t_middle), np.sin(turn * t_middle)
        linear = np.array([[c, -s], [s, c]]) * (1 + zoom) ** t_middle
        middle = np.array([picture.shape[1] / 2, picture.shape[0] / 2])
        corner = np.array([columns.start, rows.start], dtype=float)
        shift = middle + speed * t_middle + linear @ (corner - middle)
        return cv2.warpAffine(
            picture,
            np.c_[linear, shift],
            (len(columns), len(rows)),
            flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
