"""Image sequences as input: a folder, a printf pattern such as `%05d.png`, or one image."""

import re
from collections.abc import Iterator
from pathlib import Path

import av.error
from av import VideoFrame

from framelift.errors import InputError
from framelift.video.faults import reason
from framelift.video.open import open_input

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_PATTERN = re.compile(r"%(0\d+|\d*)d")
_MAGIC = (
    (b"\x89PNG", "png_pipe"),
    (b"\xff\xd8", "jpeg_pipe"),
    (b"II*\0", "tiff_pipe"),
    (b"MM\0*", "tiff_pipe"),
    (b"BM", "bmp_pipe"),
    (b"RIFF", "webp_pipe"),
)


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
        return [path] if _is_image(path) else None
    if not _PATTERN.search(path.name) or not path.parent.is_dir():
        return None
    match = re.compile(_expression(path.name))
    numbered = [(m, p) for p in path.parent.iterdir() if (m := match.fullmatch(p.name))]
    if not numbered:
        raise InputError(f"No file matches the pattern {path}.", "Check the folder and the digits.")
    return [p for _, p in sorted(numbered, key=lambda pair: int(pair[0][1]))]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part or 0), "") if part.isdigit() else (0, part) for part in _split(path.name)]


def _split(name: str) -> list[str]:
    return re.split(r"([0-9]+)", name)


def _expression(name: str) -> str:
    before, digits, after = _PATTERN.split(name, maxsplit=1)
    width = int(digits or 0)
    number = rf"(\d{{{width},}})" if digits.startswith("0") else r"(\d+)"
    return re.escape(before.replace("%%", "%")) + number + re.escape(after.replace("%%", "%"))


def gaps(images: list[Path]) -> int:
    """How many numbers are missing inside a numbered sequence (0 where names carry none)."""
    numbers = [re.findall(r"\d+", image.stem) for image in images]
    if not all(numbers):
        return 0
    last = [int(found[-1]) for found in numbers]
    return max(0, last[-1] - last[0] + 1 - len(last)) if last == sorted(set(last)) else 0


def read_image(path: Path) -> VideoFrame:
    """Decode one image file; raises InputError naming it if that fails."""
    with path.open("rb") as stream:
        head = stream.read(16)
    kind = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if kind is None:
        raise InputError(f"{path} is not a readable image.", "Remove or replace it.")
    try:
        with open_input(path, demuxer=kind) as container:
            return next(container.decode(video=0))
    except (av.error.FFmpegError, StopIteration) as error:
        raise InputError(
            f"{path} is a damaged image: {reason(error) or 'it holds no picture'}.",
            "Remove or replace it.",
        ) from error


def read_images(images: list[Path], width: int, height: int) -> Iterator[VideoFrame]:
    """Decode a sequence; raises InputError naming the first image of another size."""
    for path in images:
        frame = read_image(path)
        if (frame.width, frame.height) != (width, height):
            raise InputError(
                f"{path} is {frame.width}x{frame.height}, but the sequence began with "
                f"{width}x{height}.",
                "All images of a sequence must have the same size.",
            )
        yield frame
