"""Pixels ↔ arrays ↔ picture files: the one place where floats become 8 bits, and 8 bits PNG."""

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from framelift.errors import InputError
from framelift.files import atomic

if TYPE_CHECKING:
    from torch import Tensor

STILLS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
"""Suffixes of pictures that `read_picture` reads."""


def to_tensor(rgb: np.ndarray) -> "Tensor":
    """uint8 or uint16 `[H, W, 3]` → float32 `[3, H, W]` in [0, 1]."""
    import torch

    full = float(np.iinfo(rgb.dtype).max)
    return torch.from_numpy(rgb.astype(np.float32) / full).permute(2, 0, 1).contiguous()


def to_rgb(frame: "Tensor", deep: bool = False) -> np.ndarray:
    """Float `[3, H, W]`, clamped to [0, 1] → uint8 `[H, W, 3]`, or uint16 if `deep`."""
    full, kind = (65535, np.uint16) if deep else (255, np.uint8)
    return (frame.clamp(0, 1) * full).round().permute(1, 2, 0).cpu().numpy().astype(kind)


def read_picture(path: Path) -> np.ndarray:
    """A picture as uint8 `[H, W, 3]` RGB; InputError if it is missing or damaged."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error):
        bgr = None
    if bgr is None:
        raise InputError(f"{path} is not a readable picture.", "Copy or download it again.")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def write_picture(path: Path, rgb: np.ndarray) -> None:
    """Write uint8 or uint16 `[H, W, 3]` RGB as PNG, whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, data = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    assert encoded, rgb.dtype
    with atomic(path) as part:
        part.write_bytes(data.tobytes())
