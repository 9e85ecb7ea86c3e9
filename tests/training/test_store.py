"""The store of decoded clips: whole, small in memory, decoded once."""

import tracemalloc
from multiprocessing import get_context

import cv2
import numpy as np
import pytest

from framelift.errors import InputError
from framelift.training import store
from framelift.training.settings import SourceSettings
from framelift.training.store import open_store
from framelift.video.read import VideoReader


def folder_of_frames(folder, frames, height=90, width=160):
    folder.mkdir(parents=True)
    for t in range(frames):
        picture = np.full((height, width, 3), t % 256, np.uint8)
        picture[: height // 2] = 255 - t % 256
        cv2.imwrite(str(folder / f"{t:05d}.png"), picture)
    return folder


def test_holds_what_the_reader_gives(data, tmp_path):
    (clip,) = open_store(data, [SourceSettings(glob="one.mp4", stride=2)], tmp_path)
    expected = np.stack([f.rgb() for f in VideoReader(data / "one.mp4") if f.index % 2 == 0])
    assert clip.frames.shape == expected.shape
    assert np.array_equal(clip.frames[:, :, :], expected)
    assert np.array_equal(np.load(clip.frames.path), expected)


def test_memory_does_not_grow_with_the_video(tmp_path):
    """320 frames take 13.8 MB; decoding holds a few of them."""
    folder_of_frames(tmp_path / "data" / "long", 320)
    open_store(tmp_path / "data", [SourceSettings(glob="long", stride=100)], tmp_path / "warm")
    tracemalloc.start()
    try:
        (clip,) = open_store(tmp_path / "data", [SourceSettings(glob="long")], tmp_path / "cache")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert clip.frames.shape == (320, 90, 160, 3)
    assert clip.frames[319:320, :1, :1][0, 0, 0, 0] == 255 - 319 % 256
    assert peak < 4e6


def _open(data, cache, log):
    def decode(*arguments):
        with log.open("a") as lines:
            lines.write("decoded\n")
        return original(*arguments)

    original, store._decode_into = store._decode_into, decode
    clips = open_store(data, [SourceSettings(glob="*.mp4")], cache)
    assert all(int(np.sum(c.frames[0:1, :4, :4])) >= 0 for c in clips)


def test_several_processes_decode_once(data, tmp_path):
    context, log = get_context("spawn"), tmp_path / "log"
    workers = [
        context.Process(target=_open, args=(data, tmp_path / "cache", log)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0, 0, 0]
    assert log.read_text().splitlines() == ["decoded"] * 3
    assert len(list((tmp_path / "cache").glob("*/frames.npy"))) == 3
    assert not list((tmp_path / "cache").glob(".*.part*"))


def test_a_failed_decoding_leaves_nothing(tmp_path):
    folder = folder_of_frames(tmp_path / "data" / "odd", 3)
    cv2.imwrite(str(folder / "00003.png"), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(InputError):
        open_store(tmp_path / "data", [SourceSettings(glob="odd")], tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache").iterdir() if not p.name.endswith(".lock")]
