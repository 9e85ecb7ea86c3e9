"""One picture as output: what its name may be, and its file in the format of its suffix."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from framelift.errors import FrameliftError, InputError, UsageError
from framelift.files import part_path, publish, remove
from framelift.types import VideoInfo
from framelift.video.faults import writing
from framelift.video.images import NAME
from framelift.video.sequence import find_images, is_pattern
from framelift.video.stills import read_tags
from framelift.video.write import Segment

DEEP_SUFFIXES = (".png", ".tif", ".tiff")
_LARGEST = {".webp": 16383, ".jpg": 65535, ".jpeg": 65535}  # sides that the format can tell
_SAVED = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 95},
    ".tif": {"compression": "tiff_deflate"},
    ".tiff": {"compression": "tiff_deflate"},
}
_HOLDS_TAGS = (".jpg", ".jpeg", ".png", ".webp")


def is_photo(source: Path, info: VideoInfo) -> bool:
    """Whether an input is one picture: a file that is neither a sequence nor animated."""
    return info.is_images and info.frames == 1 and source.is_file()


def check_picture(
    output: Path, source: Path, info: VideoInfo, frames: int | None, size: tuple[int, int]
) -> list[str]:
    """Raise UsageError unless `frames` frames of `size` (height, width) fit into one picture.

    `frames` is None where it is not known yet. Returns warnings.
    """
    if frames not in (None, 1):
        if is_pattern(output):
            raise UsageError(
                f"{output} is a pattern.",
                "Name a folder; the images become 00001.png and so on in it.",
            )
        raise UsageError(
            f"{output} is one picture, but {source} has {frames} frames.",
            "Name a folder or a video file, or choose one frame, as with --frames 0:1.",
        )
    suffix = output.suffix.lower()
    if max(size) > _LARGEST.get(suffix, 2**31):
        raise UsageError(
            f"{suffix} files cannot hold {size[1]}x{size[0]} pixels.", "Name a .png or .tif file."
        )
    if info.bit_depth > 8 and suffix not in DEEP_SUFFIXES:
        return [f"{suffix} files hold 8 bits a colour; the source has {info.bit_depth}."]
    return []


def assemble_picture(
    segments: Sequence[Segment],
    output: Path,
    source: Path,
    whole: Callable[[Path, list[str]], None] = lambda part, warnings: None,
    overwrite: bool = True,
) -> None:
    """Write the one picture of `segments` as `output`, with the EXIF tags of a source photo.

    The file appears whole or not at all. `whole` and `overwrite` as in `assemble.finish`.
    """
    made = [s.path / NAME.format(n + 1) for s in segments for n in range(len(s.pts))]
    if len(made) != 1:
        raise FrameliftError(f"{len(made)} pictures came out, not one.", "Please report this.")
    part = part_path(output)
    try:
        with writing(output):
            warnings = _convert(made[0], part, source)
        whole(part, warnings)
        with writing(output):
            publish(part, output, replace=overwrite)
    finally:
        remove(part)


def _convert(made: Path, part: Path, source: Path) -> list[str]:
    suffix = part.suffix.lower()
    tags, lost = _tags(source)
    warnings = [f"The {lost} tags of {source.name} are dropped."] if lost else []
    picture = cv2.imdecode(np.frombuffer(made.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise FrameliftError(f"{made} cannot be read back.", "Please report this.")
    if picture.dtype == np.uint16 and suffix in DEEP_SUFFIXES:
        part.write_bytes(cv2.imencode(suffix, picture)[1].tobytes())
        return [*warnings, f"The EXIF tags of {source.name} are dropped."] if tags else warnings
    if picture.dtype == np.uint16:
        picture = ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)
    options = dict(_SAVED.get(suffix, {}))
    if tags and suffix in _HOLDS_TAGS:
        options["exif"] = tags
    elif tags:
        warnings.append(f"{suffix} files are written without the EXIF tags of {source.name}.")
    Image.fromarray(np.ascontiguousarray(picture[..., ::-1])).save(part, **options)
    return warnings


def _tags(source: Path) -> tuple[bytes, str]:
    """EXIF of a source that is one picture, and the names of what else describes it."""
    try:
        images = find_images(source)
        return read_tags(images[0]) if images is not None and len(images) == 1 else (b"", "")
    except InputError:
        return b"", ""
