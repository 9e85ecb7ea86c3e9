"""Pictures to look at: details of every method side by side, and one row of pixels over time."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from framelift.evaluation.cases import Case
from framelift.evaluation.frames import View
from framelift.evaluation.prepare import enlarge
from framelift.images import to_rgb, write_picture

DETAIL = 96  # ground truth pixels on each side of a detail
ZOOM = 3  # enlargement of a detail on the picture
PROFILE_HEIGHT, PROFILE_WIDTH = 64, 512  # what a profile is enlarged to by whole factors
BAR, GAP = 24, 4
FONT, INK, PAPER = cv2.FONT_HERSHEY_SIMPLEX, (20, 20, 20), 255


def show_details(path: Path, case: Case, at: tuple[int, int] | None = None) -> tuple[int, int]:
    """Write details of the middle frame at one place: LR, bicubic, every result, ground truth.

    The whole frame stands on the left, with the place marked. `at` is the detail's upper left
    corner (y, x); by default the detail lies where the picture changes most. Returns the detail's
    centre.
    """
    views = _views(case)
    index = case.frames // 2
    overview = next(list(views.values())[-1].arrays(index, index + 1))
    side = min(DETAIL, *overview.shape[:2])
    y, x = _inside(at, overview, side) if at else most_detail(overview, side)
    pictures = {label: next(view.arrays(index, index + 1)) for label, view in views.items()}
    if case.lr is not None:
        small = next(case.lr.tensors(index, index + 1))
        names = {"LR": "nearest"} | ({} if "bicubic" in pictures else {"bicubic": "bicubic"})
        large = {n: to_rgb(enlarge(how, small, case.scale), deep=False) for n, how in names.items()}
        pictures = large | pictures
    row = [labelled(f"frame {index}", _marked(overview, y, x, side, side * ZOOM))]
    for label, picture in pictures.items():
        row.append(labelled(label, zoom(picture[y : y + side, x : x + side], ZOOM)))
    write_picture(path, beside(row))
    return y + side // 2, x + side // 2


def show_profile(path: Path, case: Case, row: int) -> None:
    """Write one row of pixels of every frame, time downward, for each result and ground truth."""
    strips = []
    for label, view in _views(case).items():
        lines = np.stack([frame[row] for frame in view.arrays()])
        zoom = max(1, PROFILE_WIDTH // lines.shape[1])
        strip = np.repeat(lines, max(zoom, -(-PROFILE_HEIGHT // len(lines))), axis=0)
        strip = np.repeat(strip, zoom, axis=1)
        strips.append(labelled(f"{label}: row {row} over {len(lines)} frames", strip))
    write_picture(path, below(strips))


def most_detail(rgb: np.ndarray, side: int) -> tuple[int, int]:
    """Upper left corner (y, x) of the square of uint8 `[H, W, 3]` with the most gradient energy."""
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    energy = cv2.Sobel(luma, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(luma, cv2.CV_32F, 0, 1) ** 2
    sums = cv2.integral(np.sqrt(energy))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(y), int(x)


def _views(case: Case) -> dict[str, View]:
    """Results, then the ground truth where there is one."""
    return {**case.sr, **({"ground truth": case.gt} if case.gt else {})}


def _inside(at: tuple[int, int], rgb: np.ndarray, side: int) -> tuple[int, int]:
    return min(at[0], rgb.shape[0] - side), min(at[1], rgb.shape[1] - side)


def zoom(rgb: np.ndarray, factor: int) -> np.ndarray:
    return np.repeat(np.repeat(rgb, factor, axis=0), factor, axis=1)


def _marked(rgb: np.ndarray, y: int, x: int, side: int, height: int) -> np.ndarray:
    """The whole frame at a height, with a red square around the detail."""
    factor = height / rgb.shape[0]
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    small = cv2.resize(rgb, (max(1, round(rgb.shape[1] * factor)), height), interpolation=how)
    corners = [(round(a * factor), round(b * factor)) for a, b in ((x, y), (x + side, y + side))]
    return cv2.rectangle(small.copy(), corners[0], corners[1], (230, 40, 40), 2)


def labelled(text: str, rgb: np.ndarray) -> np.ndarray:
    """The picture below a bar with its name; letters that the font lacks become '?'."""
    bar = np.full((BAR, rgb.shape[1], 3), PAPER, np.uint8)
    for letter, plain in (("×", "x"), ("⁻", "^-"), ("³", "3"), ("¹", "1")):
        text = text.replace(letter, plain)
    plain = text.encode("ascii", "replace").decode()
    (width, _), _ = cv2.getTextSize(plain, FONT, 0.45, 1)
    size = min(0.45, 0.45 * (rgb.shape[1] - 4) / max(1, width))
    cv2.putText(bar, plain, (2, BAR - 8), FONT, size, INK, 1, cv2.LINE_AA)
    return np.concatenate([bar, rgb])


def beside(panels: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((panels[0].shape[0], GAP, 3), PAPER, np.uint8)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)


def below(panels: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((GAP, panels[0].shape[1], 3), PAPER, np.uint8)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=0)
