"""Curves: what is drawn is what was given, and both files are whole."""

from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from framelift.papers.curves import Curve, Panel, draw_curves, draw_panel

pytest.importorskip("matplotlib")


@pytest.fixture
def axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


def bars(axes):
    """Segments [(x, low), (x, high)] of each curve's intervals."""
    return [np.array(found.get_segments()) for found in axes.collections]


def test_points_and_intervals_are_the_numbers(axes):
    low = Curve([(1, 10.0), (2, 11.0), (4, 12.0)], "low", [(9.0, 11.0), None, (11.5, 13.0)])
    high = Curve([(1, 15.0), (4, 16.0)], "high", [(14.0, 15.5), (15.0, 17.0)])
    draw_panel(axes, Panel([low, high], "title", "x", "y"))
    lines = [line for line in axes.lines if line.get_marker() == "."]
    assert [list(zip(*line.get_data(), strict=True)) for line in lines] == [low.points, high.points]
    assert bars(axes)[0][:, :, 1].tolist() == [[9, 11], [11.5, 13]]
    assert bars(axes)[1][:, :, 1].tolist() == [[14, 15.5], [15, 17]]
    left, right = (found[0, 0, 0] for found in bars(axes))
    assert 0.9 < left < 1 < right < 1.1  # side by side, at the same point
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "4"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["low", "high"]
    bottom, top = axes.get_ylim()
    assert bottom < 9
    assert top > 17


def test_a_logarithmic_axis(axes):
    draw_panel(
        axes, Panel([Curve([(1, 1.0), (100, 2.0)], intervals=[(0, 2), (1, 3)])] * 2, log_x=True)
    )
    assert axes.get_xscale() == "log"
    (first, _), (last, _) = (sorted(found[:, 0, 0]) for found in bars(axes))
    assert first < 1 < last
    assert first * last == pytest.approx(1)
    assert axes.get_legend() is None


@pytest.mark.parametrize("log_x", [False, True])
def test_both_files_for_one_point_and_values_that_are_not_finite(tmp_path, log_x):
    panels = [
        Panel([Curve([(3, 7.0)], "one", [(6.0, 8.0)]), Curve([(3, 7.5)], "two")], log_x=log_x),
        Panel([Curve([(3, float("inf")), (4, 2.0)])], log_x=log_x),
        Panel([Curve([(3, 2.0)])]),
    ]
    png, svg = draw_curves(tmp_path / "fig9", panels, columns=2)
    picture = cv2.imread(str(png))
    assert picture.shape == (2 * 360, 2 * 504, 3)
    assert picture[:360].std() > 5
    assert (picture[400:, 504:] == 255).all()  # no fourth panel
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    before = svg.read_bytes(), png.read_bytes()
    draw_curves(tmp_path / "fig9", panels, columns=2)
    assert (svg.read_bytes(), png.read_bytes()) == before
