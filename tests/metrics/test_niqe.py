import numpy as np
import pytest
import torch

from framelift.metrics.niqe import niqe


def grainy(rgb):
    """With whole-number grain, so that no area is flat."""
    y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    grain = (x * 37 + y * 101 + x * y) % 23 - 11
    return (rgb.astype(int) + grain[..., None]).clip(0, 255).astype(np.uint8)


def test_numbers_of_basicsr(score, pair):
    """calculate_niqe of BasicSR 1.4.2. In flat areas, where the sign of rounding errors counts as
    a feature, it also depends on BasicSR's float32; hence the tolerances.
    """
    sr, gt = pair
    assert score("niqe", grainy(gt)) == pytest.approx(5.793212434875814, abs=1e-4)
    assert score("niqe", gt) == pytest.approx(2.749361048808863, abs=3e-3)
    assert score("niqe", sr) == pytest.approx(4.861799564725418, abs=3e-3)


def test_numbers_of_pyiqa(score, pair):
    """calculate_niqe of pyiqa 0.1.16, which takes the luma of YIQ and computes in float64."""
    sr, gt = pair
    assert score("niqe", grainy(gt)) == pytest.approx(5.793247318293605, abs=1e-4)  # ycbcr
    assert score("niqe", grainy(gt), niqe_luma="yiq") == pytest.approx(5.961001694583995, abs=1e-4)
    assert score("niqe", gt, niqe_luma="yiq") == pytest.approx(2.8730761655627757, abs=3e-3)
    assert score("niqe", sr, niqe_luma="yiq") == pytest.approx(4.849738810555918, abs=3e-3)


def test_the_truth_has_its_own_value(score, measure, pair):
    sr, gt = (torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in pair)
    found = measure(["niqe"], {"x": [sr]}, [gt])
    assert found.truth["niqe"] == [score("niqe", pair[1])]
    assert found.values["x"]["niqe"] == [score("niqe", pair[0])]


def test_only_whole_blocks_count(planes):
    """A 180×320 frame holds 1×3 blocks: the rest does not matter."""
    values = planes[0].astype(float)
    cut = values[:96, :288]
    assert niqe(values) == pytest.approx(niqe(cut))
    assert niqe(values[:95]) is None
    assert niqe(values[:96, :191]) is None


def test_flat_frames_have_no_value():
    assert niqe(np.full((192, 192), 128.0)) is None


def test_a_border_is_cut_first(score, pair):
    inner = np.ascontiguousarray(pair[1][8:-8, 8:-8])
    assert score("niqe", pair[1], border=8) == pytest.approx(score("niqe", inner))
