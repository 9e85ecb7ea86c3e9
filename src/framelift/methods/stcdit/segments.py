"""Motion-aware segmentation: where the camera's motion changes, a new segment begins.

Between neighbouring frames an affine motion is fitted to tracked corners (Shi and Tomasi 1994;
Lucas and Kanade in pyramids; RANSAC). A frame to which the camera shifts, turns or zooms by more
than the thresholds starts a segment; long segments are cut to the length that the VAE codes well.
Every frame lies in exactly one segment.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from framelift.methods.stcdit.settings import STCDiTSettings

CORNERS, QUALITY, DISTANCE = 100, 0.3, 7
WINDOW, LEVELS = (21, 21), 3
AGREEMENT = 3.0  # pixels within which corners move alike, RANSAC's threshold as well
LEAST_TRACKED = 3  # an affine motion has six unknowns, a point gives two equations


@dataclass(frozen=True)
class CameraMotion:
    """How the picture moves from a frame to the next.

    `right` and `down` are the shift of the picture's middle in pixels, `angle` is in degrees,
    `zoom` is 1 for none.
    """

    right: float = 0.0
    down: float = 0.0
    angle: float = 0.0
    zoom: float = 1.0

    def exceeds(self, settings: STCDiTSettings) -> bool:
        """Whether a segment ends before it."""
        return (
            max(abs(self.right), abs(self.down)) > settings.max_shift
            or abs(self.angle) > settings.max_rotation
            or abs(self.zoom - 1) > settings.max_zoom
        )


LOST = CameraMotion(math.inf, math.inf)
"""Nothing of a frame is found again in the next."""


class MotionWatcher:
    """Watches a video frame by frame; keeps one frame and a `CameraMotion` a pair.

    Where the settings take no notice of motion, every pair stands still.
    """

    def __init__(self, settings: STCDiTSettings) -> None:
        self.settings = settings
        self.motions: list[CameraMotion] = []
        self._before: np.ndarray | None = None

    def __call__(self, frame: Tensor) -> None:
        """`frame` is `[3, h, w]`, RGB in [0, 1]."""
        looks = self.settings.reconstruction == "motion-aware"
        gray = _gray(frame) if looks else np.empty((0, 0), np.uint8)
        if self._before is not None:
            self.motions.append(camera_motion(self._before, gray) if looks else CameraMotion())
        self._before = gray


def watch(frames: Iterable[Tensor], settings: STCDiTSettings) -> list[CameraMotion]:
    """The motion of every pair of neighbours of `frames` `[T, 3, h, w]` in [0, 1]."""
    watcher = MotionWatcher(settings)
    for frame in frames:
        watcher(frame)
    return watcher.motions


def camera_motion(before: np.ndarray, after: np.ndarray) -> CameraMotion:
    """The affine motion between two gray pictures `[h, w]`, uint8.

    None where there are no corners to follow, `LOST` where none can be followed. The shift is taken
    in the picture's middle: at its corner, where the affine offset is read, a turn or a zoom would
    look like a shift.
    """
    corners = cv2.goodFeaturesToTrack(before, CORNERS, QUALITY, DISTANCE)
    if corners is None or len(corners) < LEAST_TRACKED:
        return CameraMotion()
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        before, after, corners, np.empty_like(corners), winSize=WINDOW, maxLevel=LEVELS
    )
    kept = status.ravel() == 1
    if kept.sum() < LEAST_TRACKED:
        return LOST
    cv2.setRNGSeed(0)  # RANSAC draws
    affine, _ = cv2.estimateAffine2D(corners[kept], found[kept])
    if affine is None:  # corners on a line, or no motion that they share
        return _shift((found - corners)[kept].reshape(-1, 2))
    matrix = affine[:, :2]
    middle = (np.array(before.shape[::-1]) - 1) / 2
    right, down = matrix @ middle + affine[:, 2] - middle
    scales = np.linalg.norm(matrix, axis=0)
    angle = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
    return CameraMotion(float(right), float(down), angle, float(scales.mean()))


def _shift(moves: np.ndarray) -> CameraMotion:
    """What most of `moves` `[n, 2]` agree on, `LOST` where that is nothing."""
    right, down = np.median(moves, axis=0)
    near = np.hypot(*(moves - (right, down)).T) <= AGREEMENT
    return CameraMotion(float(right), float(down)) if near.mean() > 0.5 else LOST


def segment(
    frames: int,
    motions: Sequence[CameraMotion],
    settings: STCDiTSettings,
    cuts: Iterable[int] = (),
    longest: int | None = None,
) -> list[range]:
    """Segments of a clip whose frames move as `motions` (one fewer than frames) say.

    None spans one of `cuts`, which are the first frames of shots. `longest` frames at most, besides
    the settings' own limit.
    """
    if len(motions) != max(0, frames - 1):
        raise ValueError(f"{frames} frames have {frames - 1} motions between them: {len(motions)}")
    most = settings.segment_frames if longest is None else min(longest, settings.segment_frames)
    borders = set(cuts)
    if settings.reconstruction == "motion-aware":
        borders |= {i for i, m in enumerate(motions, 1) if m.exceeds(settings)}
    if settings.reconstruction == "whole":
        most = frames if longest is None else longest
    starts = [0, *sorted(b for b in borders if 0 < b < frames)]
    return [
        range(at, min(at + most, stop))
        for start, stop in zip(starts, [*starts[1:], frames], strict=True)
        for at in range(start, stop, most)
    ]


def _gray(frame: Tensor) -> np.ndarray:
    pixels = (frame.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    return cv2.cvtColor(np.ascontiguousarray(pixels.cpu().numpy()), cv2.COLOR_RGB2GRAY)
