"""Real codecs in memory."""

import numpy as np
import pytest
from support import moving

from framelift.errors import UsageError
from framelift.video.reencode import reencode, reencode_codecs


def error(result, frames):
    pairs = zip(result, frames, strict=True)
    return float(np.mean([np.square(a - b.astype(float)).mean() for a, b in pairs]))


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4"])
def test_frames_come_back_in_order_and_worse(codec):
    assert codec in reencode_codecs()  # as every wheel of PyAV has them
    rng = np.random.default_rng(0)
    frames = [
        moving(i, (48, 70)) // 2 + rng.integers(0, 90, (48, 70, 3), np.uint8) for i in range(60)
    ]
    errors = []
    for bits in (3e5, 3e4):
        result = list(reencode(frames, codec, bit_rate=bits, rate=25))
        assert [r.shape for r in result] == [f.shape for f in frames]
        assert all(r.dtype == np.uint8 for r in result)
        errors.append(error(result, frames))
    assert errors[0] < errors[1] * 0.9
    fine, coarse = (list(reencode(frames, codec, crf=q)) for q in (4, 30))
    assert error(fine, frames) < error(coarse, frames)
    nearest = [int(np.argmin([error([r], [f]) for f in frames])) for r in fine[::7]]
    assert nearest == list(range(0, 60, 7))


@pytest.mark.parametrize("codec", reencode_codecs())
@pytest.mark.parametrize("size", [(33, 47), (18, 31), (1, 1)])
def test_odd_and_tiny_sizes_and_colours(codec, size):
    frames = [np.full((*size, 3), (200, 40, 90), np.uint8)] * 3
    result = list(reencode(frames, codec, crf=4))
    assert [r.shape for r in result] == [(*size, 3)] * 3
    assert np.abs(result[1].astype(int) - frames[1]).max() <= 4


def test_same_bytes_every_time_and_nothing_for_nothing():
    frames = [moving(i) for i in range(9)]
    first, second = (list(reencode(frames, "h264", bit_rate=2e4, rate=1)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert list(reencode([], "h264", crf=20)) == []


def test_unknown_codec():
    with pytest.raises(UsageError, match="xvid"):
        list(reencode([moving(0)], "xvid", crf=20))
