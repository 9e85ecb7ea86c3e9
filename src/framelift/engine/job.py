"""From what the user typed to what will be written: names, sizes, refusals. No torch."""

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from framelift.engine.settings import UpscaleSettings
from framelift.errors import InputError, UsageError
from framelift.types import EncodeSettings, VideoInfo
from framelift.video import encoders
from framelift.video.containers import VIDEO_SUFFIXES
from framelift.video.containers import check_output as check_container
from framelift.weights.presets import load_preset

HOLDS_ALL = ".mkv"
KEPT_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv"}
LONGEST_NAME = 240  # bytes; file systems allow 255, and names beside the output are longer


@dataclass(frozen=True)
class Job:
    """One input and its output: `height` and `width` are those of the stored output pixels."""

    source: Path
    output: Path
    info: VideoInfo
    height: int
    width: int
    encode: EncodeSettings
    as_images: bool
    warnings: tuple[str, ...] = ()


def plan_job(source: Path, output: Path | None, info: VideoInfo, settings: UpscaleSettings) -> Job:
    """Decide name, size and format of the output; refuse what cannot work before any work."""
    load_preset(settings.preset or settings.method)
    height, width = output_size(info, settings)
    output = output or default_output(source, info, settings)
    as_images = output.suffix == ""
    if re.search(r"%\d*d", output.name):
        raise UsageError(
            f"{output} is a pattern.", "Name a folder; the images become 00001.png and so on in it."
        )
    if as_images:
        dropped = [*info.audio, *info.subtitles]
        warnings = (f"A folder of images cannot hold {', '.join(dropped)}.",) if dropped else ()
    else:
        check_container(output, settings.encode.codec)
        warnings = encoders.plan(settings.encode, info, width, height).warnings
    check_output(source, output, settings.overwrite)
    return Job(source, output, info, height, width, settings.encode, as_images, warnings)


def output_size(info: VideoInfo, settings: UpscaleSettings) -> tuple[int, int]:
    """Stored size (height, width) of the output; `--height` is the height as shown."""
    turned = info.rotation % 180 == 90
    if settings.height is None:
        scale = Fraction(settings.scale or 4).limit_denominator(1000)
        return max(1, round(info.height * scale)), max(1, round(info.width * scale))
    shown = info.width if turned else info.height
    scale = Fraction(settings.height, shown)
    along = info.height if turned else info.width
    other = max(2, round(along * scale / 2) * 2)
    return (other, settings.height) if turned else (settings.height, other)


def default_output(source: Path, info: VideoInfo, settings: UpscaleSettings) -> Path:
    """`clip.mp4` → `clip_4x.mp4` or `clip_1080p.mp4`; rare containers become Matroska."""
    size = f"{settings.height}p" if settings.height else f"{settings.scale or 4:g}x"
    if info.is_images:
        folder = source if source.is_dir() else source.parent
        return folder.with_name(f"{folder.resolve().name}_{size}")
    suffix = source.suffix.lower() if source.suffix.lower() in KEPT_SUFFIXES else HOLDS_ALL
    if settings.encode.lossless or settings.encode.codec in ("ffv1", "prores"):
        suffix = HOLDS_ALL
    return source.with_name(f"{source.stem}_{size}{suffix}")


def check_output(source: Path, output: Path, overwrite: bool) -> None:
    """Refuse output == input, an existing output, a long name, a missing or read-only folder."""
    if len(os.fsencode(output.name)) > LONGEST_NAME:
        raise UsageError(
            f"The name of the output, {output.name[:20]}…, is too long.",
            f"Choose one of at most {LONGEST_NAME} bytes with --output.",
        )
    if output.exists() and source.exists() and source.samefile(output):
        raise UsageError(
            f"The output {output} is the input itself.", "Choose another name with --output."
        )
    if output.exists() and not overwrite:
        raise UsageError(f"{output} already exists.", "Pass --overwrite to replace it.")
    if output.is_dir() and overwrite and any(p.suffix != ".png" for p in output.iterdir()):
        raise UsageError(
            f"The folder {output} holds more than images.", "Choose another one with --output."
        )
    folder = output.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.", "Create it first.")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"The folder {folder} cannot be written to.", "Choose another --output.")


def collect_inputs(paths: tuple[Path, ...]) -> list[Path]:
    """Inputs of a batch: a folder of videos stands for its videos, one of images for itself."""
    inputs: list[Path] = []
    for path in paths:
        videos = []
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
            videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES]
        inputs.extend(videos or [path])
    if not inputs:
        raise InputError("There is no input.", "Name a video, a folder or an image sequence.")
    return inputs
