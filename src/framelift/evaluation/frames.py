"""The part of a clip that is evaluated, and clips written as numbered PNG files."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, repeat
from pathlib import Path

import numpy as np
from torch import Tensor

from framelift.datasets.base import ImageSource, Source, VideoSource
from framelift.errors import InputError
from framelift.evaluation.cache import files_digest, key_of
from framelift.files import atomic
from framelift.images import to_rgb, to_tensor, write_picture
from framelift.video.faults import make_folder, writing

NAME = "{:05d}.png"


@dataclass(frozen=True)
class Still(Source):
    """One frame of a source, `count` times."""

    source: Source
    index: int
    count: int

    @property
    def paths(self) -> tuple[Path, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The files that the frame is part of."""
        return self.source.paths

    def __len__(self) -> int:
        return self.count

    @property
    def size(self) -> tuple[int, int]:
        return self.source.size

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        times = len(range(self.count)[start:stop])
        for frame in self.source.frames(self.index, self.index + 1):
            yield from repeat(frame, times)


@dataclass(frozen=True)
class View:
    """The first `frames` frames of a source, cut to a box of pixels (top, left, height, width)."""

    source: Source
    frames: int
    box: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the box."""
        return self.box[2], self.box[3]

    def arrays(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames `[H, W, 3]`, uint8 RGB."""
        top, left, height, width = self.box
        stop = self.frames if stop is None else min(stop, self.frames)
        for frame in self.source.frames(start, stop):
            yield np.ascontiguousarray(frame[top : top + height, left : left + width])

    def tensors(self, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
        """Frames `[3, H, W]`, float32 RGB in [0, 1]."""
        for frame in self.arrays(start, stop):
            yield to_tensor(frame)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is seen, by its files where they hold nothing else."""
        if isinstance(self.source, ImageSource):
            content = files_digest(self.source.paths[: self.frames])
        elif isinstance(self.source, VideoSource):
            content = files_digest(self.source.paths)
        else:
            hashed = hashlib.sha256()
            for frame in self.source.frames(0, self.frames):
                hashed.update(np.ascontiguousarray(frame).data)
            content = hashed.hexdigest()
        return key_of([content, self.frames, self.box])

    def still(self, times: int) -> "View":
        """The middle frame, again and again."""
        source = Still(self.source, self.frames // 2, times)
        return replace(self, source=source, frames=times)

    def center(self, side: int, multiple: int) -> "View":
        """The central square, smaller where the frame is, at places that `multiple` divides."""
        top, left, height, width = self.box
        rows, columns = (min(side, s) // multiple * multiple for s in (height, width))
        dy, dx = (
            (s - c) // 2 // multiple * multiple for s, c in ((height, rows), (width, columns))
        )
        return replace(self, box=(top + dy, left + dx, rows, columns))

    def shrunk(self, other: "View", scale: int) -> "View":
        """The same part of `other`, whose frames are smaller by `scale`."""
        top, left, height, width = (side // scale for side in self.box)
        return View(other.source, self.frames, (top, left, height, width))


def whole(source: Source, frames: int | None = None) -> View:
    """All of a source, or its first `frames` frames."""
    count = len(source)
    if count == 0:
        raise InputError(f"{source.paths[0]} has no frames.", "Check that it plays.")
    height, width = source.size
    return View(source, min(frames or count, count), (0, 0, height, width))


@contextmanager
def frame_folder(folder: Path, times: int = 1) -> Iterator[Callable[[Tensor], None]]:
    """Yield a function that writes float `[3, H, W]` in [0, 1] as the next PNG file of a folder,
    00001.png first, or as the next `times` files. The folder appears when all are written, or not
    at all."""
    make_folder(folder.parent)
    numbers = count(1)
    with atomic(folder) as part:
        make_folder(part)

        def put(frame: Tensor) -> None:
            rgb = to_rgb(frame, deep=False)
            with writing(folder):
                for _ in range(times):
                    write_picture(part / NAME.format(next(numbers)), rgb)

        yield put
