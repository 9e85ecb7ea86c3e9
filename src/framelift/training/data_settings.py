"""Settings of training data. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from framelift.errors import UsageError


@dataclass(frozen=True)
class SourceSettings:
    """Files below the data root, or a dataset by name."""

    glob: str = ""
    """Video files, folders of frames or still pictures: a pattern relative to the root, for example
    "*.mp4"."""
    dataset: str = ""
    """A dataset in its published layout instead (see `framelift data list`); its clips are read as
    they are needed."""
    folder: str = ""
    """Folder of the dataset, relative to the root."""
    split: str = ""
    """Split to train on (default: the dataset's first)."""
    holdout_split: str = ""
    """Split whose clips are kept for validation."""
    stride: int = 1
    """Take every n-th frame."""
    shrink: int = 1
    """Shrink by this factor first: removes compression and sensor noise from the targets."""
    weight: float = 1.0
    """How often crops come from these files, relative to √(frames × megapixels); clips of a dataset
    are all taken equally often."""

    def __post_init__(self) -> None:
        if bool(self.glob) == bool(self.dataset):
            raise UsageError(
                "A source of training data is a glob or a dataset.", "Set one of the two."
            )


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
    bicubic, saved in 8 bits; none makes no LR frames, for objectives that look at HR alone."""
    augment: Literal["full", "flip", "none"] = "full"
    """Mirror crops left to right (flip), and turn them by quarters as well (full)."""
