"""Motion-aware segmentation: every frame once, cuts where the camera's motion changes."""

import math

import numpy as np
import pytest
import torch
from stcdit_parts import pipeline

from framelift.degrade.stages.motion import Pose, move_camera
from framelift.methods.base import ClipInfo
from framelift.methods.stcdit.segments import (
    LOST,
    CameraMotion,
    MotionWatcher,
    camera_motion,
    segment,
    watch,
)
from framelift.methods.stcdit.settings import STCDiTSettings
from framelift.ops.resize import resize

SETTINGS = STCDiTSettings()
STILL = CameraMotion()


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """A picture full of corners `[3, 180, 240]`."""
    noise = torch.rand(3, 18, 24, generator=torch.Generator().manual_seed(0))
    return resize(noise, (180, 240)).clamp(0, 1)


def filmed(picture: torch.Tensor, poses: list[Pose]) -> torch.Tensor:
    return torch.cat([move_camera(picture[None], p) for p in poses]).clamp(0, 1)


@pytest.mark.parametrize("frames", [1, 2, 9, 10, 18, 1000])
@pytest.mark.parametrize("moving", ["still", "always", "now and then"])
@pytest.mark.parametrize("reconstruction", ["motion-aware", "uniform", "whole"])
def test_every_frame_lies_in_one_segment(frames, moving, reconstruction):
    jump = CameraMotion(right=6)
    every = {"still": math.inf, "always": 1, "now and then": 7}[moving]
    motions = [jump if i % every == 0 else STILL for i in range(1, frames)]
    cuts = [c for c in (5, 500) if c < frames]
    settings = STCDiTSettings(reconstruction=reconstruction)
    segments = segment(frames, motions, settings, cuts)
    assert [i for s in segments for i in s] == list(range(frames))
    assert all(len(s) > 0 for s in segments)
    assert set(cuts) <= {s.start for s in segments}
    if reconstruction != "whole":
        assert max(len(s) for s in segments) <= 9
    if reconstruction == "motion-aware" and moving == "always":
        assert all(len(s) == 1 for s in segments)


@pytest.mark.parametrize(
    ("pose", "expected"),
    [
        (Pose(), CameraMotion()),
        (Pose(right=8 / 180), CameraMotion(right=-8)),
        (Pose(down=-6 / 180), CameraMotion(down=6)),
        (Pose(angle=math.radians(2)), CameraMotion(angle=2)),
        (Pose(zoom=1.04), CameraMotion(zoom=1.04)),
    ],
)
def test_motion_is_measured_in_the_middle(picture, pose, expected):
    """A turn or a zoom about the middle is no shift, as it would be at the picture's corner."""
    (found,) = watch(filmed(picture, [Pose(), pose]), SETTINGS)
    assert found.right == pytest.approx(expected.right, abs=0.3)
    assert found.down == pytest.approx(expected.down, abs=0.3)
    assert found.angle == pytest.approx(expected.angle, abs=0.1)
    assert found.zoom == pytest.approx(expected.zoom, abs=0.003)
    assert found.exceeds(SETTINGS) == (pose != Pose())


def test_thresholds_are_settings(picture):
    (found,) = watch(filmed(picture, [Pose(), Pose(right=8 / 180)]), SETTINGS)
    assert found.exceeds(SETTINGS)
    assert not found.exceeds(STCDiTSettings(max_shift=10))


def test_flat_frames_stand_still_and_lost_ones_cut(picture):
    gray = (picture.mean(0) * 255).byte().numpy()
    flat = gray * 0
    assert camera_motion(flat, gray) == STILL
    assert camera_motion(gray, flat).exceeds(SETTINGS)
    assert LOST.exceeds(STCDiTSettings(max_shift=1e9))


@pytest.mark.parametrize("shift", [0, 4])
def test_corners_on_a_line_show_a_shift(shift):
    """No affine motion can be fitted to them, yet nothing is lost."""
    gray = np.zeros((64, 96), np.uint8)
    for row in (10, 25, 40, 55):
        gray[row : row + 3, 20:23] = 255
    found = camera_motion(gray, np.roll(gray, shift, axis=1))
    assert found.right == pytest.approx(shift, abs=0.3)
    assert abs(found.down) < 0.3
    assert not found.exceeds(SETTINGS)


def test_a_shaking_clip_is_cut_more_often_than_a_steady_one(picture):
    steady = filmed(picture, [Pose(right=i / 180) for i in range(12)])
    shaking = filmed(picture, [Pose(right=(i % 3) * 7 / 180) for i in range(12)])
    counts = [len(segment(12, watch(clip, SETTINGS), SETTINGS)) for clip in (steady, shaking)]
    assert counts[0] == 2
    assert counts[1] > 6


def test_windows_hold_whole_segments_and_segment_alike(picture):
    """A window's own segmentation, without the rest of the video, is that of the plan."""
    poses = [Pose(right=(9 * (i // 5)) / 180, zoom=1.02 ** (i // 11)) for i in range(40)]
    clip = filmed(picture, poses)
    made, settings = pipeline(), STCDiTSettings()
    watcher = MotionWatcher(settings)
    for frame in clip:
        watcher(frame)
    cuts = (17,)
    whole = segment(40, watcher.motions, settings, cuts)
    windows = made.plan(ClipInfo(40, 180, 240, cuts, 0, watcher), 16, 0)
    assert [i for w in windows for i in range(w.start, w.stop)] == list(range(40))
    assert max(w.length for w in windows) <= 16
    found = [
        range(w.start + s.start, w.start + s.stop)
        for w in windows
        for s in made.segments(clip[w.start : w.stop], settings)
    ]
    assert found == whole
    part = made.plan(ClipInfo(30, 180, 240, (), 10, watcher), 16, 0)
    assert part[-1].stop == 30


def test_the_watcher_keeps_one_frame():
    watcher = MotionWatcher(SETTINGS)
    for _ in range(50):
        watcher(torch.rand(3, 32, 32))
    assert len(watcher.motions) == 49
    arrays = [v for v in vars(watcher).values() if hasattr(v, "nbytes")]
    assert sum(a.nbytes for a in arrays) == 32 * 32


def test_corners_on_a_line_tell_of_a_shift():
    """No affine motion follows from them; the frame is not lost for that."""
    picture = np.full((64, 96), 60, np.uint8)
    picture[:, 40:] = 200
    for y in (12, 28, 44):
        picture[y : y + 6, 40:43] = 60
    still, moved = (camera_motion(picture, np.roll(picture, n, axis=1)) for n in (0, 2))
    assert abs(still.right) < 0.1
    assert moved.right == pytest.approx(2, abs=0.3)
