"""Curves with their intervals, by matplotlib (extra `eval`), as PNG and as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framelift.errors import UsageError
from framelift.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]

DODGE = 0.012  # between the interval bars of neighbouring curves, as a share of the axis
PANEL = (4.2, 3.0)  # inches
DPI = 120


@dataclass(frozen=True)
class Curve:
    """Points (x, y) in order of x and, where known, the interval (low, high) of each y."""

    points: Sequence[Point]
    title: str = ""
    intervals: Sequence[Point | None] = ()


@dataclass(frozen=True)
class Panel:
    """Curves on common axes. x is marked where there are points."""

    curves: Sequence[Curve]
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False
    borders: Sequence[float] = ()
    """Places x of vertical lines."""


def draw_curves(path: Path, panels: Sequence[Panel], columns: int = 1) -> tuple[Path, Path]:
    """Write panels, `columns` in a row, as `path` with the suffixes .png and .svg.

    Intervals are bars at the points. UsageError without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "Curves need matplotlib, which is not installed.",
            'Install it with pip install "framelift[eval]".',
        ) from error
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    size = (PANEL[0] * columns, PANEL[1] * rows)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        draw_panel(axes, panel)
    for axes in grid[len(panels) :]:
        axes.remove()
    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    # No date and fixed ids: the same numbers give the same file.
    unchanging: dict[str, Any] = {"svg": {"Date": None}, "png": {}}
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "framelift"}):
        for target in (png, svg):
            kind = target.suffix[1:]
            with atomic(target) as part:
                figure.savefig(part, format=kind, metadata=unchanging[kind])
    return png, svg


def draw_panel(axes: "Axes", panel: Panel) -> None:
    """Draw curves and their intervals; the bars of neighbouring curves stand side by side."""
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.set_xscale("log" if panel.log_x else "linear")
    axes.set_yscale("log" if panel.log_y else "linear")
    for x in panel.borders:
        axes.axvline(x, color="0.85", linewidth=1)
    xs = sorted({x for curve in panel.curves for x, _ in curve.points})
    for number, curve in enumerate(panel.curves):
        x, y = ([point[i] for point in curve.points] for i in (0, 1))
        (line,) = axes.plot(x, y, marker=".", linewidth=1.5, label=curve.title or None)
        known = [
            (at, *ends)
            for (at, _), ends in zip(curve.points, curve.intervals, strict=False)
            if ends is not None
        ]
        if known:
            side = DODGE * (number - (len(panel.curves) - 1) / 2)
            places = [_beside(at, side, (xs[0], xs[-1]), panel.log_x) for at, _, _ in known]
            low, high = ([ends[i] for ends in known] for i in (1, 2))
            color = line.get_color()
            axes.vlines(places, low, high, colors=color, linewidth=1)
            for ends in (low, high):
                axes.plot(places, ends, "_", color=color, markersize=5)
    if len(xs) <= 12:
        axes.set_xticks(xs, [f"{x:g}" for x in xs])
        axes.xaxis.minorticks_off()
    axes.grid(axis="y", color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    if any(curve.title for curve in panel.curves):
        axes.legend(frameon=False, fontsize="small")


def _beside(x: float, share: float, ends: Point, log: bool) -> float:
    """`x`, moved by a share of the axis between its ends."""
    first, last = ends
    return x * (last / first) ** share if log else x + share * (last - first)
