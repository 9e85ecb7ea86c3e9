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

    8-bit frames become 8-bit PNG files, 16-bit frames 16-bit ones. Frames of a rotated or mirrored
    video are turned as players show them (see `baked_in`). Same use as SegmentWriter.
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
        self._info = info
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
            file.write_bytes(self._png(upright(rgb, self._info)))
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


def upright(rgb: np.ndarray, info: VideoInfo) -> np.ndarray:
    """A stored picture [H, W, 3] as players show it: turned and mirrored."""
    quarters = round(info.rotation / 90)
    if info.rotation % 90:
        return rgb
    if info.mirrored:  # the display matrix turns the other way, then flips top and bottom
        return np.ascontiguousarray(np.flipud(np.rot90(rgb, -quarters)))
    return np.ascontiguousarray(np.rot90(rgb, quarters))


def baked_in(info: VideoInfo, height: int, width: int) -> tuple[int, int, list[str]]:
    """Stored size of the pictures of a video, with square pixels, and what is said about them.

    A picture file tells neither rotation nor pixel shape as players understand them, so frames are
    turned when they are written, and resized once to the shape that they are shown in. The side
    that is shown as height stays.
    """
    said = []
    if info.rotation % 90:
        said.append(f"Pictures cannot be turned by {info.rotation} degrees; they are not.")
    elif info.rotation or info.mirrored:
        turned = f"turned by {info.rotation % 360} degrees" if info.rotation else ""
        how = " and ".join(filter(None, [turned, "mirrored" if info.mirrored else ""]))
        said.append(f"The pictures are {how}, as players show the rotation of the video.")
    shape = info.sample_aspect_ratio
    if shape > 0 and shape != 1:
        if info.rotation % 180 == 90:
            height = max(1, round(height / shape))
        else:
            width = max(1, round(width * shape))
        said.append(f"The pictures get square pixels; those of the video are {shape} as wide.")
    return height, width, said


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
