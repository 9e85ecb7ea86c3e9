"""Texture that a network invents: a grid of period four, and grain on flat places."""

import cv2
import numpy as np

from framelift.metrics.base import Better, Sample
from framelift.metrics.pictures import luma
from framelift.metrics.settings import MetricSettings

PERIOD = 4  # pixels between the lines of the grid
WINDOW, SMALLEST = 256, 64  # sides of the windows in pixels
NEAR, BESIDE = 1, range(4, 10)  # bins around that of the period, and those they are compared with
EVERY = 8
BLOCK, FLAT, SIGMA = 8, 2.0, 1.5


class GridIndex:
    """How far a pattern of four pixels stands out of the spectrum; the truth's own is near 1.

    See `grid_index`. Of every eighth frame that counts, the first included; None for frames with
    a side below 64 pixels.
    """

    name = "grid"
    better: Better = "reference"
    needs: frozenset[str] = frozenset()
    has_truth_value = True

    def __init__(self, settings: MetricSettings) -> None:
        self.settings = settings
        self.protocol: dict[str, str | int | float | bool] = {
            "color": "Y of BT.601, 16-235, not rounded",
            "rounding": "8 bits" if settings.bits8 else "none",
            "period": PERIOD,
            "window": f"Hann {WINDOW}², every {WINDOW // 4}",
            "frames": f"every {EVERY}th",
        }

    def __call__(self, sample: Sample) -> float | None:
        if sample.number % EVERY:
            return None
        return grid_index(luma(sample.sr, self.settings))


def grid_index(values: np.ndarray) -> float | None:
    """Grid index of luma `[H, W]`, float64 on any scale.

    Hann windows of 256² every 64 pixels; their power spectra added, and summed over one axis; the
    mean power of bins 63 to 65 over that of bins 55 to 60 and 68 to 73; the mean of both axes.
    Frames with a side below 256 take the largest multiple of 8 that fits, N, every N/4 pixels, and
    the bins at the same distances from N/4, where the period of four pixels lies; None below 64,
    and for frames without any power there.
    """
    side = min(WINDOW, min(values.shape) // 8 * 8)
    if side < SMALLEST:
        return None
    centre = side // PERIOD
    hann = np.hanning(side + 1)[:-1]
    power = np.zeros((2, side // 2 + 1))
    for top in range(0, values.shape[0] - side + 1, side // 4):
        for left in range(0, values.shape[1] - side + 1, side // 4):
            window = values[top : top + side, left : left + side] * hann * hann[:, None]
            # By Parseval a power spectrum summed over an axis is that of the other axis' lines.
            power[0] += np.square(np.abs(np.fft.rfft(window, axis=1))).sum(0)
            power[1] += np.square(np.abs(np.fft.rfft(window, axis=0))).sum(1)
    peak = power[:, centre - NEAR : centre + NEAR + 1].mean(1)
    around = power[:, [centre + sign * d for sign in (-1, 1) for d in BESIDE]].mean(1)
    # What rounding leaves of a frame without contrast is no spectrum.
    if (around <= 1e-20 * power.max(1)).any():
        return None
    return float((peak / around).mean())


class Grain:
    """High-pass energy on flat places, as a ratio to the ground truth's, whose own is 1.

    Of luma minus its Gaussian blur (σ 1.5), over the 8×8 blocks in which the ground truth's luma
    deviates by less than 2 levels. None for frames without such blocks, or without grain there.
    """

    name = "grain"
    better: Better = "reference"
    needs = frozenset({"gt"})
    has_truth_value = True

    def __init__(self, settings: MetricSettings) -> None:
        self.settings = settings
        self.protocol: dict[str, str | int | float | bool] = {
            "color": "Y of YIQ, 0-255",
            "rounding": "8 bits" if settings.bits8 else "none",
            "high_pass": f"minus Gaussian blur, σ {SIGMA}",
            "flat": f"{BLOCK}×{BLOCK} blocks of the ground truth, deviation below {FLAT:g} levels",
        }

    def __call__(self, sample: Sample) -> float | None:
        assert sample.gt is not None
        flat = _flat(luma(sample.gt, self.settings, "yiq"))
        if not flat.any():
            return None
        sr, gt = (
            float(_energy(luma(frame, self.settings, "yiq"))[flat].sum())
            for frame in (sample.sr, sample.gt)
        )
        return sr / gt if gt else None


def _flat(values: np.ndarray) -> np.ndarray:
    """Blocks `[H // 8, W // 8]` of luma `[H, W]` with next to no contrast."""
    return _blocks(values).std(axis=(1, 3)) < FLAT


def _energy(values: np.ndarray) -> np.ndarray:
    """High-pass energy of each block `[H // 8, W // 8]`."""
    detail = values - cv2.GaussianBlur(values, (0, 0), SIGMA)
    return np.square(_blocks(detail)).sum(axis=(1, 3))


def _blocks(values: np.ndarray) -> np.ndarray:
    rows, columns = (side // BLOCK for side in values.shape)
    return values[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
