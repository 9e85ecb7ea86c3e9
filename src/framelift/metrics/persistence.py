"""Whether what moves keeps its shape: Moving MNIST's digits from a clip's first frame to its last.

PSNR and SSIM need a truth, which a sample of a prior has not. Here a digit of the first frame is
looked for in the last one: the normalised correlation of its pixels with the best place there. A
true clip has 1 unless digits overlap at the end; a clip whose digits are others by then has what
two unrelated digits have, which is far from 0. So the two are always given beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

BRIGHT = 64  # of 255: what belongs to a stroke
SMALLEST = 24  # pixels of a stroke, fewer are specks
LARGEST = 28  # side of a digit: what is larger is two of them
JOIN, MARGIN = 3, 2  # pixels that a stroke may skip, and around its box


@dataclass(frozen=True)
class Persistence:
    """Mean scores of clips, beside what would be best and worst."""

    score: float
    """Of a digit with the last frame of its own clip; NaN where no clip shows a digit apart."""
    unrelated: float
    """Of the same digits with the last frames of other clips."""
    digits: int
    """How many digits were found apart in first frames."""
    clips: int


def find_digits(frame: np.ndarray) -> list[np.ndarray]:
    """Digits that stand apart in `frame` uint8 `[H, W]`, each with a margin, others blacked out."""
    bright = (frame >= BRIGHT).astype(np.uint8)
    joined = cv2.dilate(bright, np.ones((JOIN, JOIN), np.uint8))
    count, labels = cv2.connectedComponents(joined, connectivity=8)
    found = []
    for label in range(1, count):
        own = labels == label
        rows, columns = (np.flatnonzero((own & (bright > 0)).any(axis=a)) for a in (1, 0))
        if (own & (bright > 0)).sum() < SMALLEST:
            continue
        if max(np.ptp(rows), np.ptp(columns)) >= LARGEST:
            continue
        alone = np.pad(np.where(own, frame, 0), MARGIN)
        bottom, right = rows[-1] + 2 * MARGIN + 1, columns[-1] + 2 * MARGIN + 1
        found.append(alone[rows[0] : bottom, columns[0] : right])
    return found


def find_again(digit: np.ndarray, frame: np.ndarray) -> float:
    """The highest normalised correlation of `digit` with any place of `frame`, in [-1, 1]."""
    height, width = digit.shape
    room = ((height // 2,) * 2, (width // 2,) * 2)
    around = np.pad(frame, room).astype(np.float32)
    found = cv2.matchTemplate(around, digit.astype(np.float32), cv2.TM_CCOEFF_NORMED)
    return float(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0).max())  # black has no shape


def shape_persistence(clips: Sequence[np.ndarray], last: int = -1) -> Persistence:
    """How well digits of first frames are found in the frames `last` of clips uint8 `[T, H, W]`."""
    digits = [find_digits(clip[0]) for clip in clips]
    own, others = [], []
    for number, found in enumerate(digits):
        other = clips[(number + 1) % len(clips)]
        own += [find_again(digit, clips[number][last]) for digit in found]
        others += [find_again(digit, other[last]) for digit in found]
    if not own:
        return Persistence(float("nan"), float("nan"), 0, len(clips))
    return Persistence(float(np.mean(own)), float(np.mean(others)), len(own), len(clips))
