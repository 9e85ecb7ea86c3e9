"""NIQE (Mittal, Soundararajan & Bovik 2013), as its MATLAB release and BasicSR compute it."""

from functools import cache
from math import lgamma
from pathlib import Path

import cv2
import numpy as np
import torch

from framelift.metrics.base import Better, Sample
from framelift.metrics.pictures import crop, luma
from framelift.metrics.settings import MetricSettings
from framelift.ops.resize import downscale

PRISTINE = Path(__file__).with_name("niqe_pristine.npz")
BLOCK = 96
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


class NIQE:
    """Distance of a frame's statistics from those of pristine photographs; needs no reference.

    None for frames of fewer than two blocks of 96×96 pixels. Few blocks make a noisy number:
    small crops are not comparable with whole frames.
    """

    name = "niqe"
    better: Better = "lower"
    needs: frozenset[str] = frozenset()
    has_truth_value = True

    def __init__(self, settings: MetricSettings) -> None:
        self.settings = settings
        self.protocol: dict[str, str | int | float | bool] = {
            "color": "Y, 16-235" if settings.niqe_luma == "ycbcr" else "Y of YIQ, 0-255",
            "border": settings.border,
            "rounding": "8 bits",
            "block": BLOCK,
            "model": "pristine model of the release",
        }

    def __call__(self, sample: Sample) -> float | None:
        values = luma(sample.sr, self.settings, self.settings.niqe_luma)
        return niqe(np.rint(crop(values, self.settings.border)))


def niqe(values: np.ndarray) -> float | None:
    """NIQE of luma `[H, W]`, whole numbers from 0 to 255 in float64."""
    rows, columns = (side // BLOCK for side in values.shape)
    if rows * columns < 2:
        return None
    values = np.ascontiguousarray(values[: rows * BLOCK, : columns * BLOCK])
    half = downscale(torch.from_numpy(values)[None] / 255, 2)[0].double().numpy() * 255
    features = np.concatenate(
        [_features(_normalized(x), (rows, columns)) for x in (values, half)], axis=1
    )
    pristine_mean, pristine_covariance = _pristine()
    complete = features[~np.isnan(features).any(axis=1)]  # blocks without any contrast are not
    if len(complete) < 2:
        return None
    covariance = np.linalg.pinv((pristine_covariance + np.cov(complete, rowvar=False)) / 2)
    difference = pristine_mean - np.nanmean(features, axis=0)
    return float(np.sqrt(difference @ covariance @ difference))


def _normalized(values: np.ndarray) -> np.ndarray:
    """Mean-subtracted, contrast-normalised coefficients (eq. 1)."""
    window = cv2.getGaussianKernel(7, 7 / 6, cv2.CV_64F)
    mean = cv2.sepFilter2D(values, -1, window, window, borderType=cv2.BORDER_REPLICATE)
    square = cv2.sepFilter2D(values**2, -1, window, window, borderType=cv2.BORDER_REPLICATE)
    return (values - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)


def _features(values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The 18 features of every block `[B, 18]` (sec. 2.2)."""
    rows, columns = grid
    height, width = values.shape[0] // rows, values.shape[1] // columns
    blocks = values.reshape(rows, height, columns, width).swapaxes(1, 2)
    blocks = blocks.reshape(-1, height, width)
    alpha, left, right = _fit_aggd(blocks)
    features = [alpha, (left + right) / 2]
    for step in NEIGHBOURS:
        alpha, left, right = _fit_aggd(blocks * np.roll(blocks, step, axis=(1, 2)))
        mean = (right - left) * np.exp(_lgamma(2 / alpha) - _lgamma(1 / alpha))  # eq. 8
        features += [alpha, mean, left, right]
    return np.stack(features, axis=1)


def _fit_aggd(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Asymmetric generalised Gaussians of blocks: α, β_l, β_r `[B]`, by matching moments."""
    values = blocks.reshape(len(blocks), -1)
    squares = values**2
    below, above = values < 0, values > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt((squares * below).sum(1) / below.sum(1))
        right = np.sqrt((squares * above).sum(1) / above.sum(1))
        gamma = left / right
        ratio = np.abs(values).mean(1) ** 2 / squares.mean(1)
        ratio *= (gamma**3 + 1) * (gamma + 1) / (gamma**2 + 1) ** 2
    shapes, ratios = _ratios()
    after = np.searchsorted(ratios, ratio).clip(1, len(ratios) - 1)
    nearest = after - (ratio - ratios[after - 1] <= ratios[after] - ratio)
    alpha = shapes[np.where(np.isnan(ratio), 0, nearest)]
    scale = np.exp((_lgamma(1 / alpha) - _lgamma(3 / alpha)) / 2)
    return alpha, left * scale, right * scale


@cache
def _ratios() -> tuple[np.ndarray, np.ndarray]:
    """Shapes α from 0.2 to 10 and the ratio Γ(2/α)² / (Γ(1/α) Γ(3/α)) of each, ascending."""
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, np.exp(2 * _lgamma(2 / shapes) - _lgamma(1 / shapes) - _lgamma(3 / shapes))


def _lgamma(x: np.ndarray) -> np.ndarray:
    return np.array([lgamma(value) for value in x])


@cache
def _pristine() -> tuple[np.ndarray, np.ndarray]:
    """Mean `[36]` and covariance `[36, 36]` of pristine features."""
    with np.load(PRISTINE) as model:
        return model["mu_pris_param"][0], model["cov_pris_param"]
