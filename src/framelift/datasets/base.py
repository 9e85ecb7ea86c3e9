"""What a dataset is made of: sources of frames, clips that pair them, and the set of clips."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from framelift.errors import InputError, UsageError
from framelift.images import read_picture
from framelift.video.probe import probe
from framelift.video.read import VideoReader
from framelift.video.sequence import find_images

Size = tuple[int, int]
"""Height and width in pixels."""


class Source(ABC):
    """The frames of one clip. `paths` are the files they come from."""

    paths: tuple[Path, ...]

    @abstractmethod
    def __len__(self) -> int:
        """The number of frames."""

    @property
    @abstractmethod
    def size(self) -> Size:
        """Height and width of the first frame."""

    @abstractmethod
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames `start` to `stop` (exclusive), uint8 `[H, W, 3]` RGB; InputError if damaged."""


@dataclass(frozen=True)
class ImageSource(Source):
    """A picture file for every frame."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def size(self) -> Size:
        height, width, _ = read_picture(self.paths[0]).shape
        return height, width

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        first = None
        for path in self.paths[start:stop]:
            frame = read_picture(path)
            first = first or frame.shape
            if frame.shape != first:
                raise InputError(
                    f"{path} is {show_size(frame.shape)}, unlike the frames before it "
                    f"({show_size(first)}).",
                    "All frames of a clip must have the same size.",
                )
            yield frame


@dataclass(frozen=True)
class VideoSource(Source):
    """A video file. Frames deeper than 8 bits are rounded to 8."""

    paths: tuple[Path]

    @cached_property
    def _length(self) -> int:
        return sum(1 for _ in VideoReader(self.paths[0]))

    def __len__(self) -> int:
        return self._length

    @property
    def size(self) -> Size:
        info = probe(self.paths[0])
        return info.height, info.width

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        for frame in islice(VideoReader(self.paths[0]), start, stop):
            rgb = frame.rgb()
            yield rgb if rgb.dtype == np.uint8 else cv2.convertScaleAbs(rgb, alpha=1 / 257)


@dataclass(frozen=True)
class ArraySource(Source):
    """Frames that `load` makes at once: uint8 `[T, H, W, 3]`."""

    paths: tuple[Path, ...]
    shape: tuple[int, int, int]
    """Number of frames, height, width."""
    load: Callable[[], np.ndarray]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> Size:
        return self.shape[1:]

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        yield from self.load()[start:stop]


@dataclass(frozen=True)
class PieceSource(Source):
    """Frames `first` to `last` (exclusive) of another source."""

    paths: tuple[Path, ...]
    whole: Source
    first: int
    last: int

    @property
    def size(self) -> Size:
        return self.whole.size

    def __len__(self) -> int:
        return self.last - self.first

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        first, last, _ = slice(start, stop).indices(len(self))
        return self.whole.frames(self.first + first, self.first + max(first, last))


class Maker(Protocol):
    """Clips that are made by rule, each a function of its index, many at once."""

    frames: int
    size: int
    """Side of the square frames in pixels."""

    def __len__(self) -> int:
        """How many different clips there are."""
        ...

    def make(self, indices: Sequence[int] | np.ndarray, /) -> np.ndarray:
        """Grey clips, uint8 `[N, T, H, W]`."""
        ...


@dataclass(frozen=True)
class Clip:
    """High-resolution frames and, where the dataset ships them, low-resolution ones."""

    name: str
    gt: Source | None
    lr: Source | None = None
    measured: tuple[int, ...] | None = None
    """Indices of the frames that the dataset's protocol measures; None means all."""

    def __len__(self) -> int:
        source = self.gt or self.lr
        return len(source) if source else 0


@dataclass(frozen=True)
class Dataset:
    """The clips of one split, in the order of their names."""

    name: str
    root: Path
    split: str
    clips: tuple[Clip, ...]
    where: str
    """The arrangement of folders that was found, for example "GT/{clip}, BIx4/{clip}"."""
    deviations: tuple[str, ...] = ()
    """Sentences on what differs from the published dataset without making it unusable."""

    def pieces(self, frames: int) -> "Dataset":
        """Every clip cut into whole pieces of `frames` frames; a shorter rest is left out."""
        cut = []
        for clip in self.clips:
            for first in range(0, len(clip) - frames + 1, frames):
                gt, lr = (
                    s and PieceSource(s.paths, s, first, first + frames) for s in (clip.gt, clip.lr)
                )
                cut.append(Clip(f"{clip.name}@{first}", gt, lr))
        return replace(self, clips=tuple(cut))


def open_source(path: Path) -> Source:
    """A folder of pictures, a pattern such as `%05d.png`, one picture, or a video."""
    images = find_images(path)
    if images is not None:
        return ImageSource(tuple(images))
    probe(path)
    return VideoSource((path,))


def show_size(size: tuple[int, ...]) -> str:
    """A size (height, width, …) as people write it: width×height."""
    return f"{size[1]}×{size[0]}"


def choose(kind: str, word: str | None, known: tuple[str, ...]) -> str:
    """`word` if it is one of `known`, the first of them if it is None; else UsageError."""
    if word is None:
        return known[0]
    if word not in known:
        raise UsageError(f"There is no {kind} {word!r}.", f"Choose one of {', '.join(known)}.")
    return word
