"""Camera motion: exact where it can be, smooth, and never looking past the border."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from framelift.degrade.stages.motion import CameraPath, Pose, Wave, move_camera


def picture(height=24, width=40):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)).double()


def test_resting_camera_changes_nothing():
    x = picture()
    assert torch.allclose(move_camera(x, Pose()), x, atol=1e-9)
    assert torch.allclose(move_camera(x, CameraPath().pose(7, (24, 40))), x, atol=1e-9)


def test_shift_by_whole_pixels():
    x = picture()
    moved = move_camera(x, Pose(right=3 / 24, down=2 / 24))
    assert torch.allclose(moved[..., :-4, :-5], x[..., 2:-2, 3:-2], atol=1e-9)


def test_quarter_turn_and_zoom():
    x = picture(32, 32)
    turned = move_camera(x, Pose(angle=math.pi / 2))
    assert torch.allclose(turned, x.rot90(-1, (-2, -1)), atol=1e-6)
    ramp = torch.linspace(-1, 1, 32).double().expand(1, 3, 32, 32)
    zoomed = move_camera(ramp, Pose(zoom=2.0))
    assert torch.allclose(zoomed, ramp / 2, atol=0.01)


WAVES = st.lists(
    st.tuples(st.floats(0, 0.06), st.floats(0, 0.2), st.floats(0, 6.2)), max_size=3
).map(lambda terms: Wave(tuple(terms)))


@given(WAVES, WAVES, WAVES, WAVES, st.integers(0, 500), st.floats(0.3, 3.0))
def test_no_border_shows(right, down, angle, zoom, frame, aspect):
    """The corners of the window stay inside the picture."""
    size = 100, round(100 * aspect)
    pose = CameraPath(right, down, angle, zoom).pose(frame, size)
    aspect = size[1] / size[0]
    for x in (-aspect / 2, aspect / 2):
        for y in (-0.5, 0.5):
            u = (math.cos(pose.angle) * x + math.sin(pose.angle) * y) / pose.zoom + pose.right
            v = (math.cos(pose.angle) * y - math.sin(pose.angle) * x) / pose.zoom + pose.down
            assert abs(u) <= aspect / 2 + 1e-9
            assert abs(v) <= 0.5 + 1e-9


def test_paths_are_smooth():
    """No step is larger than the waves' steepest slope."""
    wave = Wave(((0.02, 0.1, 1.0), (0.01, 0.03, 2.0)))
    steepest = 2 * math.pi * (0.02 * 0.1 + 0.01 * 0.03)
    steps = [abs(wave(t + 1) - wave(t)) for t in range(300)]
    assert max(steps) <= steepest
    assert wave.reach == pytest.approx(0.03)
