"""PSNR and SSIM of bicubic equal a computation that shares no code with framelift."""

from pathlib import Path

import numpy as np
import pytest
from evaluation.clips import read_clip

VAL = Path(__file__).parents[2] / "../shared/data/val"


def imresize(picture: np.ndarray, scale: float) -> np.ndarray:
    """MATLAB's imresize (bicubic, antialiased) of `[H, W, 3]` from 0 to 255, saved as uint8."""
    x = picture.astype(np.float64)
    for axis in (0, 1):
        old = x.shape[axis]
        new = round(old * scale)
        weights = np.zeros((new, old))
        support = 4 / min(scale, 1.0)
        for i in range(new):
            centre = (i + 1) / scale + 0.5 * (1 - 1 / scale)
            left = int(np.floor(centre - support / 2))
            for tap in range(left, left + int(np.ceil(support)) + 2):
                folded = (tap - 1) % (2 * old)
                folded = folded if folded < old else 2 * old - 1 - folded
                weights[i, folded] += cubic((centre - tap) * min(scale, 1.0))
            weights[i] /= weights[i].sum()
        x = np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)
    return np.clip(np.floor(x + 0.5), 0, 255).astype(np.uint8)


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def luma(rgb: np.ndarray) -> np.ndarray:
    """MATLAB's rgb2ycbcr, first channel, not rounded."""
    return rgb @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def expected(frames: list[np.ndarray], in_luma: bool = False) -> tuple[float, float]:
    """Mean PSNR and SSIM of bicubic ×4 over the frames."""
    metrics = pytest.importorskip("skimage.metrics", reason="SSIM is compared with scikit-image's")
    values = []
    for gt in frames:
        gt = gt[: gt.shape[0] // 4 * 4, : gt.shape[1] // 4 * 4]
        sr = imresize(imresize(gt, 1 / 4), 4)
        a, b = (luma(x) if in_luma else x.astype(np.float64) for x in (sr, gt))
        psnr = 10 * np.log10(255**2 / np.mean((a - b) ** 2))
        _, ssim = metrics.structural_similarity(
            a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            channel_axis=None if in_luma else 2, full=True,
        )  # fmt: skip
        values.append((psnr, ssim[5:-5, 5:-5].mean()))
    return tuple(np.mean(values, axis=0))


@pytest.mark.parametrize("protocol", ["basicsr", "basicsr-y"])
def test_a_generated_clip(run, data, protocol):
    results = run(protocol=protocol)
    for clip in ("river", "town"):
        psnr, ssim = expected(read_clip(data / clip), in_luma=protocol == "basicsr-y")
        ours = results.values[clip]["bicubic"]
        assert ours["psnr"] == pytest.approx(psnr, abs=1e-3)
        assert ours["ssim"] == pytest.approx(ssim, abs=1e-4)
    mean = np.mean([results.values[c]["bicubic"]["psnr"] for c in ("river", "town")])
    assert results.mean("bicubic", "psnr") == pytest.approx(mean)


@pytest.mark.skipif(
    not VAL.is_dir(),
    reason="runs where DAVIS clips lie in ../shared/data/val: their licence forbids shipping them",
)
def test_a_real_clip(run):
    results = run(root=VAL, clips=("libby",), frames=2, crop=256)
    frames = [f[112:368, 296:552] for f in read_clip(VAL / "libby", 2)]  # offsets 28 × 4, 74 × 4
    psnr, ssim = expected(frames)
    assert results.mean("bicubic", "psnr") == pytest.approx(psnr, abs=1e-3)
    assert results.mean("bicubic", "ssim") == pytest.approx(ssim, abs=1e-4)
