"""What the thesis does to decoded frames (section 4.1.2, Figure 4.3), by OpenCV.

The thesis names the operations and none of their strengths. These are mild ones for pictures with
8 bits: they take away noise of a few levels.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from framelift.methods.pseudo_text.settings import PostStep
from framelift.ops.color_fix import color_fix

NLM = {"h": 3.0, "hColor": 3.0, "templateWindowSize": 7, "searchWindowSize": 15}
CLAHE = {"clipLimit": 2.0, "tileGridSize": (8, 8)}
BILATERAL = {"d": 5, "sigmaColor": 12.0, "sigmaSpace": 3.0}
GAUSSIAN = 0.8
"""Deviation in pixels."""


def postprocess(steps: Sequence[PostStep], frames: Tensor, reference: Tensor) -> Tensor:
    """Apply `steps` in order to `frames` `[T, 3, H, W]` in [0, 1]; the result is in [0, 1].

    `reference` of the same size holds the colours of the input: its bicubic enlargement.
    """
    for step in steps:
        if step in ("wavelet", "adain"):
            frames = color_fix(step, frames, reference)
        else:
            made = [_by_opencv(step, f, r) for f, r in zip(frames, reference, strict=True)]
            frames = torch.stack(made).to(frames.device)
    return frames.clamp(0, 1)


def _by_opencv(step: PostStep, frame: Tensor, reference: Tensor) -> Tensor:
    picture, wanted = (_to_bytes(x) for x in (frame, reference))
    return torch.from_numpy(_FILTERS[step](picture, wanted)).permute(2, 0, 1).float() / 255


def _to_bytes(frame: Tensor) -> np.ndarray:
    """`[H, W, 3]` in 8 bits, RGB."""
    levels = (frame.clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())


def _nlm(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    # it works in CIELAB, and takes BGR
    return cv2.fastNlMeansDenoisingColored(picture[..., ::-1].copy(), None, **NLM)[..., ::-1].copy()


def _histogram(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(**CLAHE).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def _color_transfer(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Reinhard et al. 2001, in CIELAB."""
    own, wanted = (
        cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for x in (picture, reference)
    )
    (mean, deviation), (to_mean, to_deviation) = (
        (x.mean((0, 1)), x.std((0, 1))) for x in (own, wanted)
    )
    moved = (own - mean) * (to_deviation / np.maximum(deviation, 1e-3)) + to_mean
    rgb = cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_LAB2RGB)
    return rgb.clip(0, 1) * 255


def _bilateral(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return cv2.bilateralFilter(picture, **BILATERAL)


def _gaussian(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), GAUSSIAN)


_FILTERS: dict[PostStep, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "nlm": _nlm,
    "histogram": _histogram,
    "color-transfer": _color_transfer,
    "bilateral": _bilateral,
    "gaussian": _gaussian,
}
