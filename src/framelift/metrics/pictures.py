"""Views of a frame that metrics share, each computed once."""

import cv2
import numpy as np
import torch
from torch import Tensor

from framelift.metrics.base import Frame
from framelift.metrics.settings import MetricSettings

LUMA = {  # factors of R, G, B in [0, 1], and offset, for values of 8 bits
    "ycbcr": (65.481, 128.553, 24.966, 16.0),
    "yiq": (76.245, 149.685, 29.07, 0.0),
}


def picture(frame: Frame, settings: MetricSettings) -> Tensor:
    """The frame `[1, 3, H, W]` in [0, 1], rounded if so set, on the metrics' device."""

    def compute() -> Tensor:
        rgb = frame.rgb.to(settings.device, torch.float32).clamp(0, 1)[None]
        return rgb.mul(255).round_().div_(255) if settings.bits8 else rgb

    return frame.derive("picture", compute, keep=True)


def levels(frame: Frame, settings: MetricSettings) -> np.ndarray:
    """The frame `[H, W, 3]`, float64 from 0 to 255."""

    def compute() -> np.ndarray:
        values = picture(frame, settings)[0].permute(1, 2, 0).contiguous().cpu().numpy() * 255.0
        return (np.rint(values) if settings.bits8 else values).astype(np.float64)

    return frame.derive("levels", compute)


def luma(frame: Frame, settings: MetricSettings, kind: str = "ycbcr") -> np.ndarray:
    """Luma `[H, W]`, float64: 16 to 235, not rounded, or 0 to 255 for "yiq"."""
    weights = np.array([LUMA[kind]]) / [255.0, 255.0, 255.0, 1.0]
    return frame.derive(("luma", kind), lambda: cv2.transform(levels(frame, settings), weights))


def crop(values: np.ndarray, border: int) -> np.ndarray:
    """Without `border` pixels on each side."""
    height, width = values.shape[:2]
    return values[border : height - border, border : width - border]
