"""What the user types becomes names, sizes and refusals."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from framelift.engine.job import default_output, output_size
from framelift.engine.plan import check_disk, choose_tile, choose_window
from framelift.engine.settings import UpscaleSettings, parse_frames, parse_time
from framelift.errors import NoRoomError, UsageError
from framelift.types import ColorTags, EncodeSettings, Limits, VideoInfo

INFO = VideoInfo(
    path=Path("clip.mp4"), width=161, height=90, rate=Fraction(24), time_base=Fraction(1, 24),
    frames=10, duration=1.0, start_pts=0, sample_aspect_ratio=Fraction(1), rotation=0,
    mirrored=False, bit_depth=8, pixel_format="yuv420p", codec="h264", container="mp4",
    color=ColorTags(), interlaced=False, alpha=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, (0, None)), ("3:9", (3, 9)), (":9", (0, 9)), ("3:", (3, None)), (":", (0, None))],
)
def test_frames(text, expected):
    assert parse_frames(text) == expected


@pytest.mark.parametrize("text", ["9", "9:3", "a:b", "-1:4", "1:2:3", "3:3"])
def test_bad_frames(text):
    with pytest.raises(UsageError, match="--frames"):
        UpscaleSettings(frames=text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("12.5", "25/2"), ("1:30", "90"), ("1:00:00.25", "14401/4"), ("0", "0")]
)
def test_times(text, seconds):
    assert parse_time(text) == Fraction(seconds)


@pytest.mark.parametrize("text", ["soon", "1:-2", "-3", "", "1//2"])
def test_bad_times(text):
    with pytest.raises(UsageError):
        UpscaleSettings(start=text)


@pytest.mark.parametrize(
    "bad",
    [
        {"scale": 2.0, "height": 100}, {"scale": 0.0}, {"threads": 10**6}, {"rate": float("inf")},
        {"overlap": -1}, {"window": 4, "overlap": 4}, {"tile": 16, "tile_overlap": 16},
        {"frames": "0:2", "start": "1"},
    ],
)  # fmt: skip
def test_contradictions_are_refused(bad):
    with pytest.raises(UsageError):
        UpscaleSettings(**bad)


def test_sizes():
    assert output_size(INFO, UpscaleSettings()) == (360, 644)
    assert output_size(INFO, UpscaleSettings(scale=1.5)) == (135, 242)
    assert output_size(INFO, UpscaleSettings(height=180)) == (180, 322)
    turned = replace(INFO, rotation=90)
    assert output_size(turned, UpscaleSettings(height=322)) == (180, 322), "height as shown"


def test_names():
    def name(source: str, **settings: object) -> str:
        return default_output(Path(source), INFO, UpscaleSettings(**settings)).name

    assert name("clip.mp4") == "clip_4x.mp4"
    assert name("clip.MKV", scale=1.5) == "clip_1.5x.mkv"
    assert name("clip.avi", height=1080) == "clip_1080p.mkv"
    assert name("clip.mp4", encode=EncodeSettings(lossless=True)) == "clip_4x.mkv"


def test_a_disk_that_is_too_small_is_refused_before_work(tmp_path):
    check_disk(tmp_path, 10, 1280 * 720, EncodeSettings())
    with pytest.raises(NoRoomError, match="GB free"):
        check_disk(tmp_path, 10**9, 7680 * 4320, EncodeSettings())


def test_tiles_and_windows_follow_memory():
    assert choose_tile(90, 160, Limits(size_multiple=8, bytes_per_pixel=1), 1e9) == 160
    small = choose_tile(9000, 16000, Limits(size_multiple=8, bytes_per_pixel=10**7), 1e10)
    assert small % 8 == 0
    assert small < 9000
    assert choose_window(8, 1, 1e9) == 8
    assert choose_window(8, 10**12, 1e9) == 1
