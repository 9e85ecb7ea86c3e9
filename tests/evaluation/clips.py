"""Clips as folders of PNG files."""

from pathlib import Path

import cv2
import numpy as np
from support import moving

SIZE = (64, 80)


def write_clip(folder: Path, frames: int = 3, size: tuple[int, int] = SIZE, shift: int = 0) -> Path:
    """Waves and noise, so that every resampling loses something."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(-20, 20, (*size, 3))
    for index in range(frames):
        rgb = np.clip(moving(index + shift, size) + noise, 0, 255).astype(np.uint8)
        write_frame(folder / f"{index:08d}.png", rgb)
    return folder


def write_frame(path: Path, rgb: np.ndarray) -> None:
    """Write uint8 `[H, W, 3]` RGB."""
    assert cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]))


def read_clip(folder: Path, frames: int | None = None) -> list[np.ndarray]:
    """Frames `[H, W, 3]` RGB, uint8."""
    paths = sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg"))[:frames]
    return [np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in paths]
