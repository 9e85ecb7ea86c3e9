"""Eight bits and JPEG: steps without a gradient, through which it passes straight."""

import cv2
import numpy as np
import torch
from torch import Tensor


def to_bytes(frame: Tensor) -> np.ndarray:
    """`[3, H, W]` in [0, 1] → uint8 `[H, W, 3]`."""
    levels = (frame.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).cpu().contiguous().numpy()


def from_bytes(rgb: np.ndarray, like: Tensor) -> Tensor:
    """uint8 `[H, W, 3]` → `[3, H, W]` in [0, 1], with the dtype and device of `like`."""
    return torch.from_numpy(rgb).permute(2, 0, 1).to(like) / 255


def straight_through(result: Tensor, x: Tensor) -> Tensor:
    """The value of `result` with the gradient of `x`, of the same shape."""
    return result + (x - x.detach()) if x.requires_grad else result


def quantize(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bits; the gradient passes where nothing was clamped."""
    clamped = x.clamp(0, 1)
    return straight_through((clamped.detach() * 255).round() / 255, clamped)


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Save and load every frame of `x` `[T, 3, H, W]` as JPEG (OpenCV, 4:2:0), `quality` 1..100."""
    return straight_through(torch.stack([_jpeg(frame, quality) for frame in x]), x)


def _jpeg(frame: Tensor, quality: int) -> Tensor:
    bgr = np.ascontiguousarray(to_bytes(frame)[..., ::-1])
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert encoded
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return from_bytes(np.ascontiguousarray(decoded[..., ::-1]), frame)
