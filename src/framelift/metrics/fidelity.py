"""PSNR and SSIM, as MATLAB, BasicSR and torchmetrics have them."""

import math

import cv2
import numpy as np

from framelift.metrics.base import Better, Frame, Sample
from framelift.metrics.pictures import crop, levels, luma
from framelift.metrics.settings import MetricSettings

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


class _Fidelity:
    """What PSNR and SSIM share: they compare a frame with its ground truth, on one choice of
    colours and border.
    """

    better: Better = "higher"
    needs = frozenset({"gt"})
    has_truth_value = False

    def __init__(self, settings: MetricSettings) -> None:
        self.settings = settings
        self.protocol: dict[str, str | int | float | bool] = {
            "color": "RGB" if settings.color == "rgb" else "Y of BT.601, 16-235, not rounded",
            "border": settings.border,
            "rounding": "8 bits" if settings.bits8 else "none",
        }

    def values(self, frame: Frame) -> np.ndarray:
        """`[H, W, 3]` or `[H, W]`, float64 from 0 to 255."""
        view = levels if self.settings.color == "rgb" else luma
        return crop(view(frame, self.settings), self.settings.border)


class PSNR(_Fidelity):
    """10 log₁₀(255² / MSE) in dB, MSE over all pixels and channels; infinite for equal frames."""

    name = "psnr"

    def __call__(self, sample: Sample) -> float | None:
        assert sample.gt is not None
        sr, gt = self.values(sample.sr), self.values(sample.gt)
        if not sr.size:
            return None
        mse = float(np.square(sr - gt).mean())
        return 10 * math.log10(255**2 / mse) if mse else math.inf


class SSIM(_Fidelity):
    """Structural similarity (Wang et al. 2004): 11×11 Gaussian window of σ = 1.5, K = 0.01, 0.03.

    Mean over positions and channels. None for frames smaller than the window.
    """

    name = "ssim"

    def __init__(self, settings: MetricSettings) -> None:
        super().__init__(settings)
        self.protocol |= {"window": "Gaussian 11×11, σ 1.5", "window_border": settings.ssim_border}

    def __call__(self, sample: Sample) -> float | None:
        assert sample.gt is not None
        sr, gt = self.values(sample.sr), self.values(sample.gt)
        if min(sr.shape[:2]) < WINDOW:
            return None
        mean_sr, square_sr = self._moments(sample.sr)
        mean_gt, square_gt = self._moments(sample.gt)
        product = mean_sr * mean_gt
        covariance = self._blur(sr * gt) - product
        luminance = (2 * product + C1) / (mean_sr**2 + mean_gt**2 + C1)
        variances = square_sr + square_gt - mean_sr**2 - mean_gt**2
        return float((luminance * (2 * covariance + C2) / (variances + C2)).mean())

    def _moments(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """Local means of the values and of their squares."""
        values = self.values(frame)
        return frame.derive("ssim", lambda: (self._blur(values), self._blur(values**2)))

    def _blur(self, values: np.ndarray) -> np.ndarray:
        kernel = cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_64F)
        blurred = cv2.sepFilter2D(values, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
        return crop(blurred, WINDOW // 2) if self.settings.ssim_border == "valid" else blurred
