"""Settings of training data. Imports no torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SourceSettings:
    """Video files, folders of frames or still pictures below the data root."""

    glob: str
    """Pattern relative to the root, for example "*.mp4"."""
    stride: int = 1
    """Take every n-th frame."""
    shrink: int = 1
    """Shrink by this factor first: removes compression and sensor noise from the targets."""
    weight: float = 1.0
    """How often crops come from these files, relative to √(frames × megapixels)."""


@dataclass(frozen=True)
class DataSettings:
    """What a crop is and where it comes from."""

    sources: tuple[SourceSettings, ...] = ()
    """Where clips come from."""
    holdout: tuple[str, ...] = ()
    """Names (without suffix) of clips kept for validation."""
    frames: int = 1
    """Consecutive frames per crop (of those that a source's stride leaves)."""
    crop: int = 128
    """Side of the square high-resolution crop in pixels."""
    margin: int = 16
    """High-resolution pixels around the crop that the degradation may look at."""
    scale: int = 4
    """Scale between the high-resolution crop and its low-resolution version."""
    degradation: str = "bi"
    """Degradation recipe, by name (bi, bd, realworld, ...) or TOML file: bi is MATLAB's antialiased
    bicubic, saved in 8 bits."""
    augment: Literal["full", "flip", "none"] = "full"
    """Mirror crops left to right (flip), and turn them by quarters as well (full)."""
