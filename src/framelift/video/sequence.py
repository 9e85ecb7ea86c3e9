"""Image sequences as input: a folder, a printf pattern such as `%05d.png`, or one image."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from av import VideoFrame

from framelift.errors import InputError
from framelift.video.stills import (
    SUFFIXES,
    is_animation,
    read_animation,
    read_header,
    read_still,
)

_PATTERN = re.compile(r"%(0[0-9]+|[0-9]*)d")


def find_images(path: Path) -> list[Path] | None:
    """The images `path` stands for, in natural order, or None if it is to be read as a video."""
    if path.is_dir():
        images = [p for p in path.iterdir() if _is_image(p)]
        if not images:
            raise InputError(
                f"The folder {path} holds no images.",
                f"Name a video, or a folder of {', '.join(s[1:] for s in SUFFIXES)} files.",
            )
        return sorted(images, key=_natural)
    if path.exists():
        moves = path.suffix.lower() == ".png" and _is_image(path) and is_animation(path)
        return [path] if _is_image(path) and not moves else None  # libav plays animated PNG
    if not is_pattern(path) or not path.parent.is_dir():
        return None
    match = re.compile(_expression(path.name))
    numbered = [(m, p) for p in path.parent.iterdir() if (m := match.fullmatch(p.name))]
    if not numbered:
        raise InputError(f"No file matches the pattern {path}.", "Check the folder and the digits.")
    return [p for _, p in sorted(numbered, key=lambda pair: int(pair[0][1]))]


def is_pattern(path: Path) -> bool:
    """Whether a name stands for numbered images, as `%05d.png` does."""
    return path.suffix.lower() in SUFFIXES and _PATTERN.search(path.name) is not None


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = enumerate(re.split(r"([0-9]+)", path.name))
    return [(int(part), "") if place % 2 else (0, part) for place, part in parts]


def _expression(name: str) -> str:
    before, digits, after = _PATTERN.split(name, maxsplit=1)
    width = int(digits or 0)
    number = rf"([0-9]{{{width},}})" if digits.startswith("0") else r"([0-9]+)"
    return re.escape(before.replace("%%", "%")) + number + re.escape(after.replace("%%", "%"))


def gaps(images: list[Path]) -> int:
    """How many numbers are missing inside a numbered sequence (0 where names carry none)."""
    numbers = [re.findall(r"[0-9]+", image.stem) for image in images]
    if not all(numbers):
        return 0
    last = [int(found[-1]) for found in numbers]
    return max(0, last[-1] - last[0] + 1 - len(last)) if last == sorted(set(last)) else 0


def read_images(
    images: list[Path], width: int, height: int
) -> Iterator[tuple[int, VideoFrame, bool]]:
    """Decode a sequence, or the one animated file in it, upright.

    Yields times (numbers, or ms of an animation), pictures, and whether these are transparent in
    places. Raises InputError naming the first image of another size.
    """
    for number, (path, rgb, time, transparent) in enumerate(_pixels(images)):
        if rgb.shape[:2] != (height, width):
            raise InputError(
                f"{path} is {rgb.shape[1]}x{rgb.shape[0]}, but the sequence began with "
                f"{width}x{height}.",
                "All images of a sequence must have the same size; name photos one by one "
                f"({path.with_name('*' + path.suffix)}) to enlarge each for itself.",
            )
        layout = "rgb48le" if rgb.dtype == np.uint16 else "rgb24"
        frame = VideoFrame.from_ndarray(rgb, format=layout)
        yield number if time is None else time, frame, transparent


def first_image(images: list[Path]) -> tuple[np.ndarray, bool]:
    """The first picture of a sequence or of an animated file, as `read_still` returns it."""
    _, rgb, _, transparent = next(islice(_pixels(images), 1))
    return rgb, transparent


def _pixels(images: list[Path]) -> Iterator[tuple[Path, np.ndarray, int | None, bool]]:
    if len(images) == 1 and read_header(images[0]).animated:
        for rgb, time, transparent in read_animation(images[0]):
            yield images[0], rgb, time, transparent
        return
    for path in images:
        rgb, transparent = read_still(path)
        yield path, rgb, None, transparent
