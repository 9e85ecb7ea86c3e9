"""Curves with intervals, axes and a legend, drawn with OpenCV."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

FONT, INK, FAINT = cv2.FONT_HERSHEY_SIMPLEX, (60, 60, 60), (225, 225, 225)
COLORS = ((30, 90, 200), (205, 60, 45), (40, 140, 70), (150, 90, 190), (225, 140, 20), (90, 90, 90))
LETTER = 0.4  # size of the font
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 42  # margins around the plot
LEGEND = 26  # width of a legend's mark
DODGE = 3  # pixels between the interval bars of neighbouring curves

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Points (x, y) in order of x and, where known, the interval (low, high) of each y."""

    points: Sequence[Point]
    title: str = ""
    intervals: Sequence[Point | None] = ()


def chart(
    curves: Sequence[Curve],
    size: tuple[int, int] = (560, 360),
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
) -> np.ndarray:
    """Curves in one plot, uint8 `[height, width, 3]` RGB, `size` being (width, height).

    x is marked where there are points. Labels are ASCII; those of curves stand in a legend on the
    right, unless no curve has a title.
    """
    legend = max((_width(c.title) + LEGEND for c in curves if c.title), default=0)
    canvas = np.full((size[1], size[0], 3), 255, np.uint8)
    box = (LEFT, TOP if y_label else TOP // 2, size[0] - RIGHT - legend, size[1] - BOTTOM)
    plot = _Plot(curves, box, log_x)
    plot.draw_axes(canvas, x_label, y_label)
    for number, curve in enumerate(curves):
        color = COLORS[number % len(COLORS)]
        shift = round(DODGE * (number - (len(curves) - 1) / 2))
        plot.draw(canvas, curve, color, shift)
        if curve.title:
            x, y = box[2] + 10, box[1] + 12 + 18 * number
            cv2.line(canvas, (x, y - 4), (x + LEGEND - 10, y - 4), color, 2, cv2.LINE_AA)
            _write(canvas, curve.title, (x + LEGEND - 4, y))
    return canvas


class _Plot:
    """Where values lie in the box (left, top, right, bottom) of a canvas."""

    def __init__(
        self, curves: Sequence[Curve], box: tuple[int, int, int, int], log_x: bool
    ) -> None:
        self.box, self.log_x = box, log_x
        self.xs = sorted({x for c in curves for x, _ in c.points})
        heights = [y for c in curves for _, y in c.points]
        heights += [y for c in curves for interval in c.intervals if interval for y in interval]
        heights = [y for y in heights if math.isfinite(y)] or [0.0]
        self.ticks = ticks(min(heights), max(heights))

    def place(self, x: float, y: float) -> tuple[int, int]:
        """Pixel (column, row) of a point."""
        left, top, right, bottom = self.box
        scale = math.log if self.log_x else float
        first, last = scale(self.xs[0]), scale(self.xs[-1])
        low, high = self.ticks[0], self.ticks[-1]
        across = (scale(x) - first) / ((last - first) or 1)
        up = (min(max(y, low), high) - low) / (high - low)
        return round(left + 8 + across * (right - left - 16)), round(bottom - up * (bottom - top))

    def draw_axes(self, canvas: np.ndarray, x_label: str, y_label: str) -> None:
        left, top, right, bottom = self.box
        digits = max(0, -math.floor(math.log10(self.ticks[1] - self.ticks[0]) + 1e-9))
        for value in self.ticks:
            _, row = self.place(self.xs[0], value)
            cv2.line(canvas, (left, row), (right, row), FAINT, 1)
            text = f"{value:.{digits}f}"
            _write(canvas, text, (left - 5 - _width(text), row + 4))
        for value in self.xs:
            column, _ = self.place(value, self.ticks[0])
            cv2.line(canvas, (column, bottom), (column, bottom + 3), INK, 1)
            text = f"{value:g}"
            _write(canvas, text, (column - _width(text) // 2, bottom + 17))
        cv2.line(canvas, (left, top), (left, bottom), INK, 1)
        cv2.line(canvas, (left, bottom), (right, bottom), INK, 1)
        _write(canvas, y_label, (4, 14))
        _write(canvas, x_label, ((left + right - _width(x_label)) // 2, bottom + 34))

    def draw(
        self, canvas: np.ndarray, curve: Curve, color: tuple[int, int, int], shift: int
    ) -> None:
        """A line through the points, with a bar for each interval, `shift` pixels to the side."""
        places = [self.place(*point) for point in curve.points]
        for (x, _), interval in zip(curve.points, curve.intervals, strict=False):
            if interval is None:
                continue
            (column, low), (_, high) = (self.place(x, end) for end in interval)
            cv2.line(canvas, (column + shift, low), (column + shift, high), color, 1)
            for end in (low, high):
                cv2.line(canvas, (column + shift - 2, end), (column + shift + 2, end), color, 1)
        cv2.polylines(canvas, [np.array(places, np.int32)], False, color, 2, cv2.LINE_AA)
        for place in places:
            cv2.circle(canvas, place, 3, color, -1, cv2.LINE_AA)


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round values, 1, 2 or 5 times a power of ten apart, that enclose an interval."""
    flat = 1e-3 * max(abs(low), abs(high), 1e-3)
    rough = max(high - low, flat) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * n for n in range(first, max(last, first + 1) + 1)]


def _width(text: str) -> int:
    return cv2.getTextSize(text, FONT, LETTER, 1)[0][0]


def _write(canvas: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(canvas, text, at, FONT, LETTER, INK, 1, cv2.LINE_AA)
