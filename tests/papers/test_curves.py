"""Curves: what is drawn lies where it should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framelift.papers.curves import COLORS, Curve, chart, ticks


@given(low=st.floats(-1e4, 1e4), span=st.floats(0, 1e4))
def test_ticks_are_round_and_enclose(low, span):
    high = low + span
    found = ticks(low, high)
    slack = 1e-9 * max(abs(low), abs(high), found[1] - found[0])
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 9
    first = f"{found[1] - found[0]:.4e}"
    assert first[:6] in ("1.0000", "2.0000", "5.0000")


def rows_of(picture, color):
    return np.nonzero((picture == color).all(-1))


def test_higher_values_are_drawn_higher_and_bars_span_their_interval():
    low = Curve([(1, 10.0), (2, 11.0)], intervals=[(9.0, 11.0), None])
    high = Curve([(1, 15.0), (2, 16.0)])
    picture = chart([low, high], size=(200, 150), x_label="x", y_label="y")
    assert picture.shape == (150, 200, 3)
    assert rows_of(picture, COLORS[0])[0].mean() > rows_of(picture, COLORS[1])[0].mean() + 20
    bar = rows_of(picture, COLORS[0])
    assert np.ptp(bar[0]) > np.ptp(rows_of(picture, COLORS[1])[0])


@pytest.mark.parametrize("log_x", [False, True])
def test_one_point_and_values_that_are_not_finite(log_x):
    picture = chart([Curve([(3, 7.0)], "one"), Curve([(3, 7.5)], "two")], log_x=log_x)
    assert picture.std() > 5


def test_distance_on_a_logarithmic_axis():
    curve = Curve([(1, 0.0), (10, 0.0), (100, 1.0)])
    linear, log = (chart([curve], size=(300, 100), log_x=b) for b in (False, True))
    columns = [rows_of(p[-60:], COLORS[0])[1] for p in (linear, log)]
    assert len(columns[0]) < len(columns[1])
