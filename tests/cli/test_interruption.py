"""Kill, stop and starve the real command; the same command then finishes the same video."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import decoded, make_video

from framelift.engine.journal import journal_folder
from framelift.errors import Exit

FRAMES = 18


@pytest.fixture
def clip(tmp_path) -> Path:
    return make_video(tmp_path / "clip.mp4", size=(40, 48), frames=FRAMES, audio=0.6)


@pytest.fixture
def words(clip, tiny_pipeline) -> list[str]:
    """Overlapping windows, so that a resumed run needs the float tail; several tiles."""
    settings = ["--window", "4", "--overlap", "2", "--tile", "32", "--tile-overlap", "8"]
    settings += ["--steps", "6", "--threads", "1"]
    return ["upscale", str(clip), "--preset", str(tiny_pipeline), *settings]


def start(words: list[str], limit: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "framelift", *words], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, preexec_fn=limit,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for_window(process: subprocess.Popen[str], output: Path, number: int) -> None:
    record = journal_folder(output) / f"{number:06d}.json"
    while not record.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def finish(words: list[str]) -> str:
    process = start(words)
    _, err = process.communicate()
    assert process.returncode == Exit.OK, err
    return err


@pytest.mark.parametrize(
    ("weights", "codec"),
    [("tiny_pipeline", "ffv1"), ("tiny_pipeline", "h264"), ("tiny_stablevsr", "ffv1")],
)
def test_kill_9_and_the_same_command_again(tmp_path, words, weights, codec, request):
    words = [*words, "--preset", str(request.getfixturevalue(weights)), "--codec", codec]
    unbroken, broken = tmp_path / "unbroken.mkv", tmp_path / "broken.mkv"
    finish([*words, "-o", str(unbroken)])
    process = start([*words, "-o", str(broken)])
    wait_for_window(process, broken, 2)
    process.kill()
    process.communicate()
    assert not broken.exists()
    assert "continuing after" in finish([*words, "-o", str(broken)])
    differences = [
        int(np.abs(a.astype(int) - b).max())
        for a, b in zip(decoded(broken, "rgb24"), decoded(unbroken, "rgb24"), strict=True)
    ]
    assert differences == [0] * FRAMES
    assert not journal_folder(broken).exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)]
)
def test_a_signal_finishes_the_window_and_says_how_to_continue(tmp_path, words, number, code):
    output = tmp_path / "clip_4x.mp4"
    process = start(words)
    wait_for_window(process, output, 0)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == code, err
    assert "same command again" in err
    assert "Traceback" not in err
    assert not output.exists()
    finish(words)
    assert len(decoded(output)) == FRAMES


def test_a_second_signal_stops_at_once(tmp_path, words):
    output = tmp_path / "clip_4x.mp4"
    process = start([*words, "--steps", "2000"])
    assert process.stderr is not None
    while "sampling" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "once more" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert not output.exists()


def test_changed_settings_do_not_mix(tmp_path, words):
    process = start(words)
    wait_for_window(process, tmp_path / "clip_4x.mp4", 0)
    process.kill()
    process.communicate()
    other = start([*words, "--seed", "7"])
    _, err = other.communicate()
    assert other.returncode == Exit.USAGE
    assert "seed was 0, is 7" in err
    assert "--restart" in err
    finish([*words, "--seed", "7", "--restart"])


def test_a_full_disk(tmp_path, words):
    """The file-size limit of the process stands in for the disk: the same error path of libav."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    process = start(words, limit)
    _, err = process.communicate()
    assert process.returncode == Exit.NO_ROOM, err
    assert "Traceback" not in err
    assert not (tmp_path / "clip_4x.mp4").exists()
    finish(words)
    assert len(decoded(tmp_path / "clip_4x.mp4")) == FRAMES
