"""Still clips, and the time of a frame."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from evaluation.clips import read_clip

from framelift.errors import UsageError
from framelift.evaluation.settings import EvaluateSettings
from framelift.files import read_json


def test_what_changes_where_nothing_does(tmp_path, run, tiny_pipeline):
    found = run(
        methods=("bicubic", str(tiny_pipeline)),
        still=4,
        clips=("river",),
        metrics=("psnr", "still"),
    )
    assert found.record["data"]["river"]["frames"] == 4
    changes = {m: v["still"] for m, v in found.record["frames"]["river"]["methods"].items()}
    assert changes["bicubic"] == [None, 0, 0, 0]
    assert changes[str(tiny_pipeline)][1] > 0  # every frame has noise of its own
    folders = [p for p in (tmp_path / "out/frames/river").iterdir() if p.is_dir()]
    (made,) = (p for p in folders if not p.name.startswith(("lr-", "bicubic-")))
    expected = [np.sqrt(np.square(b * 1.0 - a).mean()) for a, b in pairwise(read_clip(made))]
    assert changes[str(tiny_pipeline)][1:] == pytest.approx(expected)


def test_a_still_clip_is_degraded_once(tmp_path, data, run):
    run(still=3, clips=("river",), recipe="realworld", metrics=("psnr",))
    frames = read_clip(next((tmp_path / "out/frames/river").glob("lr-*/")))
    assert len(frames) == 3
    assert all(np.array_equal(frame, frames[0]) for frame in frames)
    again = run(still=3, clips=("river",), recipe="realworld", metrics=("psnr",))
    assert again.record["computed"] == {"degraded": 0, "upscaled": 0, "measured": 0}


def test_it_is_the_middle_frame(tmp_path, data, run):
    run(still=2, clips=("river",), methods=("nearest",))
    small = read_clip(next((tmp_path / "out/frames/river").glob("lr-*/")))[0]
    run(output="clip", clips=("river",), methods=("nearest",))
    clip = read_clip(next((tmp_path / "clip/frames/river").glob("lr-*/")))
    assert np.array_equal(small, clip[1])


def test_still_change_is_measured_unless_metrics_are_named(run):
    assert "still" in run(still=2, clips=("river",), metrics=(), protocol="basicsr").metrics
    with pytest.raises(UsageError, match="--still"):
        run(still=1)
    with pytest.raises(UsageError, match="--still"):
        EvaluateSettings(sr=(Path("x"),), still=3)


def test_seconds_of_a_frame_are_kept(tmp_path, run, tiny_pipeline):
    methods = ("bicubic", str(tiny_pipeline))
    first = run(methods=methods)
    again = run(methods=methods)
    assert again.seconds == first.seconds
    assert set(first.seconds) == {"river", "town"}
    for clip in first.seconds.values():
        assert 0 < clip["bicubic"] < clip[str(tiny_pipeline)]
    record = read_json(tmp_path / "out/results.json")
    mean = np.mean([clip["bicubic"] for clip in first.seconds.values()])
    assert record["mean"]["bicubic"]["seconds"] == pytest.approx(mean)
