"""Image sequences as output: numbered PNG files in a folder."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from framelift.errors import FrameliftError
from framelift.files import part_path, publish, remove, sync
from framelift.types import EncodeSettings, VideoInfo
from framelift.video.color import FromRGB, resolve
from framelift.video.faults import writing
from framelift.video.write import Segment

NAME = "{:05d}.png"


class ImageWriter:
    """Writes frames as `00001.png`, `00002.png`, ... into the folder `path`, which it creates.

    8-bit frames become 8-bit PNG files, 16-bit frames 16-bit ones. Same use as SegmentWriter.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        info: VideoInfo,
        encode: EncodeSettings | None = None,
        threads: int = 2,
    ) -> None:
        self.path = path
        self.padding = (0, 0)
        self.warnings: tuple[str, ...] = ()
        self._size = height, width
        self._color = resolve(info, height)
        self._pts: list[int] = []
        self._durations: list[int] = []
        shutil.rmtree(path, ignore_errors=True)
        with writing(path):
            path.mkdir(parents=True)

    def write(self, rgb: np.ndarray, pts: int, duration: int, captions: object = None) -> None:
        """Write one frame: RGB [H, W, 3], uint8 or uint16 over 0..65535; without `captions`."""
        assert rgb.shape == (*self._size, 3), (rgb.shape, self._size)
        self._pts.append(pts)
        self._durations.append(duration)
        file = self.path / NAME.format(len(self._pts))
        with writing(file):
            file.write_bytes(self._png(rgb))
            sync(file)

    def _png(self, rgb: np.ndarray) -> bytes:
        layout = "rgb48be" if rgb.dtype == np.uint16 else "rgb24"
        context: Any = av.CodecContext.create("png", "w")
        context.width, context.height, context.pix_fmt = rgb.shape[1], rgb.shape[0], layout
        context.time_base = 1
        context.thread_count = 1
        return b"".join(
            bytes(packet)
            for frame in (FromRGB(layout, self._color)(rgb), None)
            for packet in context.encode(frame)
        )

    def close(self) -> Segment:
        """Bring the folder to the disk."""
        sync(self.path)
        return Segment(self.path, self._pts, self._durations)

    def abort(self) -> None:
        """Give the segment up and delete its folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def assemble_images(
    segments: Sequence[Segment],
    output: Path,
    whole: Callable[[Path, list[str]], None] = lambda part, warnings: None,
    overwrite: bool = True,
) -> None:
    """Gather the images of all segments, renumbered from 1, in the folder `output`.

    The folder appears whole or not at all; what was there under its name goes only when it is
    there. The segments stay as they are. `whole` and `overwrite` as in `assemble.finish`.
    """
    part = part_path(output)
    number = 0
    try:
        with writing(output):
            part.mkdir(parents=True)
            for segment in segments:
                for index in range(1, len(segment.pts) + 1):
                    number += 1
                    _link(segment.path / NAME.format(index), part / NAME.format(number))
            sync(part)
        if len(list(part.iterdir())) != sum(len(segment.pts) for segment in segments):
            raise FrameliftError(f"Images are missing from {part}.", "Please report this.")
        whole(part, [])
        with writing(output):
            _replace(part, output) if overwrite else publish(part, output, replace=False)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _replace(part: Path, output: Path) -> None:
    if not output.exists():
        publish(part, output)
        return
    old = part_path(output)
    output.replace(old)
    try:
        publish(part, output)
    except BaseException:
        old.replace(output)
        raise
    remove(old)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync(target)
