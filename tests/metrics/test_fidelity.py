"""PSNR and SSIM against arithmetic, scikit-image, torchmetrics, and BasicSR 1.4.2's numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from framelift.metrics.base import Frame
from framelift.metrics.pictures import luma
from framelift.metrics.settings import MetricSettings

SEEDS = st.integers(0, 2**32 - 1)
ONCE = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SKIMAGE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def random_pair(seed, height=24, width=31):
    rng = np.random.default_rng(seed)
    gt = rng.integers(0, 256, (height, width, 3))
    sr = gt + rng.integers(-30, 31, gt.shape)
    return sr.clip(0, 255).astype(np.uint8), gt.astype(np.uint8)


def matlab_luma(rgb):
    return rgb @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def test_psnr_by_hand(score):
    gt = np.full((4, 5, 3), 100, np.uint8)
    sr = gt.copy()
    sr[0, 0] = 110  # MSE = 3·10² / 60 = 5
    assert score("psnr", sr, gt) == pytest.approx(10 * math.log10(255**2 / 5))
    assert score("psnr", gt, gt) == math.inf


def test_psnr_of_luma_by_hand(score):
    """One level of green is 128.553/255 of luma, of blue 24.966/255."""
    gt = np.full((8, 8, 3), 100, np.uint8)
    for channel, weight in enumerate((65.481, 128.553, 24.966)):
        sr = gt.copy()
        sr[..., channel] += 10
        wanted = 20 * math.log10(255 / (10 * weight / 255))
        assert score("psnr", sr, gt, color="y") == pytest.approx(wanted)


def test_luma_of_black_and_white():
    for value, wanted in ((0.0, 16), (1.0, 235)):
        y = luma(Frame(torch.full((3, 2, 2), value)), MetricSettings())
        assert y == pytest.approx(wanted)


def test_the_border_is_cut(score):
    gt = np.full((20, 20, 3), 100, np.uint8)
    sr = gt.copy()
    sr[:4] = sr[-4:] = 0
    sr[:, :4] = sr[:, -4:] = 0
    assert score("psnr", sr, gt, border=4) == math.inf
    assert score("ssim", sr, gt, border=4) == pytest.approx(1)
    assert score("psnr", sr, gt, border=3) < 30


def test_rounding_to_8_bits(measure):
    gt = torch.full((3, 16, 16), 100 / 255)
    sr = gt + 0.4 / 255
    assert measure(["psnr"], {"x": [sr]}, [gt]).values["x"]["psnr"] == [math.inf]
    exact = measure(["psnr"], {"x": [sr]}, [gt], bits8=False).values["x"]["psnr"][0]
    assert exact == pytest.approx(20 * math.log10(255 / 0.4), abs=1e-3)


@ONCE
@given(SEEDS)
def test_psnr_is_scikit_images(score, seed):
    sr, gt = random_pair(seed)
    assert score("psnr", sr, gt) == pytest.approx(peak_signal_noise_ratio(gt, sr), abs=1e-9)


@ONCE
@given(SEEDS)
def test_ssim_is_scikit_images_interior(score, seed):
    """scikit-image's own mean leaves out the same 5 pixels (truncate 3.5 × σ 1.5)."""
    sr, gt = random_pair(seed)
    wanted, full = structural_similarity(
        gt, sr, data_range=255, channel_axis=2, full=True, **SKIMAGE
    )
    assert score("ssim", sr, gt) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-9)
    assert score("ssim", sr, gt) == pytest.approx(wanted, abs=1e-9)
    luma = structural_similarity(matlab_luma(gt), matlab_luma(sr), data_range=255, **SKIMAGE)
    assert score("ssim", sr, gt, color="y") == pytest.approx(luma, abs=1e-6)


@ONCE
@given(SEEDS)
def test_both_are_symmetric_and_ssim_at_most_one(score, seed):
    sr, gt = random_pair(seed)
    for name in ("psnr", "ssim"):
        assert score(name, sr, gt) == pytest.approx(score(name, gt, sr))
    assert score("ssim", sr, gt) <= 1
    assert score("ssim", gt, gt) == pytest.approx(1)


def test_mirrored_borders_are_torchmetrics(score, pair):
    functional = pytest.importorskip("torchmetrics.functional.image")
    pair = [np.ascontiguousarray(p[:64, :80]) for p in pair]
    x, y = (torch.from_numpy(p).permute(2, 0, 1)[None].double() / 255 for p in pair)
    wanted = float(functional.structural_similarity_index_measure(x, y, data_range=1.0))
    assert score("ssim", *pair, ssim_border="reflect") == pytest.approx(wanted, abs=1e-6)
    wanted = float(functional.peak_signal_noise_ratio(x, y, data_range=(0.0, 1.0)))
    assert score("psnr", *pair) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("color", "border", "psnr", "ssim"),
    [
        ("rgb", 0, 29.164545167193133, 0.868904219491735),
        ("rgb", 4, 29.112167198887793, 0.8681443596602979),
        ("y", 0, 30.89670191246824, 0.8847954079941956),
        ("y", 4, 30.84886687764054, 0.8841090081850358),
    ],
)
def test_numbers_of_basicsr(score, pair, color, border, psnr, ssim):
    """What calculate_psnr and calculate_ssim of BasicSR 1.4.2 return for this pair.

    Its luma is float32, hence the tolerances in Y.
    """
    assert score("psnr", *pair, color=color, border=border) == pytest.approx(psnr, abs=1e-6)
    assert score("ssim", *pair, color=color, border=border) == pytest.approx(ssim, abs=1e-7)


def test_frames_smaller_than_the_window_have_no_ssim(score):
    sr, gt = random_pair(0, 10, 40)
    assert score("ssim", sr, gt) is None
    assert score("psnr", sr, gt, border=5) is None
