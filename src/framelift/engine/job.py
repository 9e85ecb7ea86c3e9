"""From what the user typed to what will be written: names, sizes, refusals. No torch."""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from framelift.engine.journal import check_journal, is_published
from framelift.engine.settings import UpscaleSettings, parse_frames
from framelift.errors import UsageError
from framelift.files import read_json
from framelift.methods.registry import method_of, method_of_settings
from framelift.types import EncodeSettings, VideoInfo
from framelift.video import encoders
from framelift.video.containers import VIDEO_OUTPUTS
from framelift.video.containers import check_output as check_container
from framelift.video.images import baked_in
from framelift.video.picture import check_picture, is_photo
from framelift.video.side_data import losses
from framelift.video.stills import SUFFIXES as PICTURE_SUFFIXES
from framelift.video.streams import side_warnings
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
    as_picture: bool = False
    """One picture file instead of a folder of them (`as_images` holds as well)."""
    warnings: tuple[str, ...] = ()


def plan_job(
    source: Path,
    output: Path | None,
    info: VideoInfo,
    settings: UpscaleSettings,
    scale: float = 4,
) -> Job:
    """Decide name, size and format of the output; refuse what cannot work before any work.

    `scale` is the enlargement where the settings name none.
    """
    height, width = output_size(info, settings, scale)
    usual = default_output(source, info, settings, scale)
    output = output or usual
    as_picture = output.suffix.lower() in PICTURE_SUFFIXES and not output.is_dir()
    as_images = as_picture or output.suffix == "" or (info.is_images and output.name == usual.name)
    as_images = as_images and output.suffix.lower() not in VIDEO_OUTPUTS
    warnings: list[str] = []
    if as_images:
        height, width, warnings = baked_in(info, height, width)
        if dropped := [*info.audio, *info.subtitles]:
            warnings.append(f"Images cannot hold {', '.join(dropped)}.")
        if as_picture:
            frames = _frames_asked_for(info, settings)
            warnings += check_picture(output, source, info, frames, (height, width))
    else:
        check_container(output, settings.encode.codec)
        warnings += encoders.plan(settings.encode, info, width, height).warnings
        if not info.is_images:
            warnings += side_warnings(source, output, settings.encode.codec)
    if not as_picture:  # that keeps the tags of a photo, or says which it drops
        warnings += losses(info.side_data, info, None if as_images else settings.encode.codec)
    check_output(source, output, settings.overwrite)
    return Job(
        source,
        output,
        info,
        height,
        width,
        settings.encode,
        as_images,
        as_picture,
        tuple(warnings),
    )


def _frames_asked_for(info: VideoInfo, settings: UpscaleSettings) -> int | None:
    """How many frames are selected, as far as the header tells."""
    if settings.start or settings.end:
        return None
    first, stop = parse_frames(settings.frames)
    stop = info.frames if stop is None else stop
    return None if stop is None else max(1, stop - first)


def choose_method(settings: UpscaleSettings, method: Any = None) -> tuple[str, Any, float]:
    """Preset, settings of its method and enlargement, before anything is loaded.

    `method` are settings of a method (None: its defaults), which also choose the method where
    `settings` name neither preset nor method. Raises UsageError where they do not fit.
    """
    name = settings.preset or settings.method
    if name is None and method is not None:
        name = method_of_settings(type(method)).name
    preset = load_preset(name, settings.weights_dir)
    kind = method_of(preset).settings_class()
    method = kind() if method is None else method
    if not isinstance(method, kind):
        raise UsageError(
            f"{preset.name} takes {kind.__name__}, not {type(method).__name__}.",
            "Pass the settings of its own method.",
        )
    return str(name or preset.name), method, getattr(method, "enlargement", preset.scale)


def output_size(info: VideoInfo, settings: UpscaleSettings, scale: float = 4) -> tuple[int, int]:
    """Stored size (height, width) of the output; `--height` is the height as shown."""
    turned = info.rotation % 180 == 90
    if settings.height is None:
        factor = Fraction(settings.scale or scale).limit_denominator(1000)
        return max(1, round(info.height * factor)), max(1, round(info.width * factor))
    shown = info.width if turned else info.height
    factor = Fraction(settings.height, shown)
    along = info.height if turned else info.width
    other = max(2, round(along * factor / 2) * 2)
    return (other, settings.height) if turned else (settings.height, other)


def default_output(
    source: Path, info: VideoInfo, settings: UpscaleSettings, scale: float = 4
) -> Path:
    """`clip.mp4` → `clip_4x.mp4` or `clip_1080p.mp4`; rare containers become Matroska.

    `photo.jpg` → `photo_4x.jpg`, the sequence in `frames/` → the folder `frames_4x`.
    """
    size = f"{settings.height}p" if settings.height else f"{settings.scale or scale:g}x"
    if is_photo(source, info):
        return source.with_name(f"{source.stem}_{size}{source.suffix}")
    if info.is_images and not source.is_file():
        folder = source if source.is_dir() else source.parent
        return folder.with_name(f"{folder.resolve().name}_{size}")
    suffix = source.suffix.lower() if source.suffix.lower() in KEPT_SUFFIXES else HOLDS_ALL
    if settings.encode.lossless or settings.encode.codec in ("ffv1", "prores"):
        suffix = HOLDS_ALL
    return source.with_name(f"{source.stem}_{size}{suffix}")


def record_path(output: Path) -> Path:
    """Where the record of a run lies."""
    return output.with_name(output.name + ".json")


def read_record(output: Path) -> dict[str, Any] | None:
    """The record that a run wrote beside `output`; None if there is none of framelift's."""
    try:
        found = read_json(record_path(output))
    except (OSError, ValueError):
        return None
    ours = isinstance(found, dict) and isinstance(found.get("settings"), dict)
    return found if ours and "framelift" in found["settings"].get("versions", {}) else None


def check_output(source: Path, output: Path, overwrite: bool) -> None:
    """Refuse output == input, what is the user's own, a long name, a folder that is not there."""
    if len(os.fsencode(output.name)) > LONGEST_NAME:
        raise UsageError(
            f"The name of the output, {output.name[:20]}…, is too long.",
            f"Choose one of at most {LONGEST_NAME} bytes with --output.",
        )
    folder = output.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.", "Create it first.")
    if output.exists() and source.exists() and source.samefile(output):
        raise UsageError(
            f"The output {output} is the input itself.", "Choose another name with --output."
        )
    if output.exists() and not (output.is_file() or output.is_dir()):
        raise UsageError(
            f"{output} is a device or a pipe.", "Name a file or a folder with --output."
        )
    check_journal(output)
    if os.path.lexists(output) and not overwrite and not is_published(output):
        raise UsageError(f"{output} already exists.", "Pass --overwrite to replace it.")
    if output.is_dir() and overwrite and any(p.suffix != ".png" for p in output.iterdir()):
        raise UsageError(
            f"The folder {output} holds more than images.", "Choose another one with --output."
        )
    record = record_path(output)
    if record.is_dir() or (record.exists() and not overwrite and read_record(output) is None):
        raise UsageError(
            f"{record} is in the way of the record of the run.",
            "Move it away, or choose another --output.",
        )
    if not os.access(folder, os.W_OK):
        raise UsageError(f"The folder {folder} cannot be written to.", "Choose another --output.")
