"""Degrade a video file or an image sequence into another one, frame by frame."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from framelift.degrade.degradation import Degradation
from framelift.degrade.recipe import describe
from framelift.errors import InputError
from framelift.files import part_path, remove, write_json
from framelift.images import to_rgb, to_tensor
from framelift.types import EncodeSettings, OnProgress, Progress
from framelift.video.assemble import finish
from framelift.video.faults import writing
from framelift.video.images import ImageWriter, assemble_images
from framelift.video.read import VideoReader
from framelift.video.side_data import losses
from framelift.video.write import Segment, SegmentWriter


@dataclass(frozen=True)
class Degraded:
    """A written clip; `record` is what lies beside it as JSON."""

    output: Path
    record: dict[str, Any]
    warnings: list[str]


def degrade_file(
    source: Path,
    output: Path,
    degradation: Degradation,
    encode: EncodeSettings,
    on_progress: OnProgress = lambda event: None,
) -> Degraded:
    """Write the degraded `source` to `output`, with its times, sound and subtitles.

    An `output` without suffix becomes a folder of PNG images. The clip's name for the drawn
    parameters is the source's name without suffix. Frames stream, so memory does not grow with
    the video. The output appears whole or not at all; `output`.json holds recipe, parameters and
    seed. Raises InputError and UsageError for what cannot be read or written.
    """
    reader = VideoReader(source)
    info = replace(reader.info, bit_depth=8)  # that is what recipes end in
    as_images = output.suffix == ""
    held = part_path(output if as_images else output.with_suffix(".mkv"))
    try:
        open_writer = partial(
            ImageWriter if as_images else SegmentWriter, held, info=info, encode=encode
        )
        segment = _write(reader, degradation, open_writer, on_progress)
        on_progress(Progress("finish", len(segment.pts), len(segment.pts)))
        if as_images:
            assemble_images([segment], output)
            lost: list[str] = []
        else:
            lost = finish([segment], output, source=source, info=info, encode=encode)
    finally:
        remove(held)
    if as_images and (dropped := [*info.audio, *info.subtitles]):
        lost = [*lost, f"A folder of images cannot hold {', '.join(dropped)}."]
    gone = losses(reader.report.side_data, info, None if as_images else encode.codec)
    warnings = [*reader.report.warnings, *gone, *lost]
    record = _record(source, output, degradation, len(segment.pts), warnings)
    with writing(output):
        write_json(output.with_name(output.name + ".json"), record)
    return Degraded(output, record, warnings)


class _Frames:
    """Decoded frames `[3, H, W]` in [0, 1]; remembers the times of those that were read."""

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader
        self.times: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[Tensor]:
        for frame in self._reader:
            self.times.append((frame.pts, frame.duration))
            yield to_tensor(frame.rgb())


def _write(
    reader: VideoReader,
    degradation: Degradation,
    open_writer: Callable[..., SegmentWriter | ImageWriter],
    on_progress: OnProgress,
) -> Segment:
    frames, writer = _Frames(reader), None
    try:
        for index, frame in degradation.stream(frames, clip_name(reader.path)):
            rgb = to_rgb(frame)
            writer = writer or open_writer(width=rgb.shape[1], height=rgb.shape[0])
            writer.write(rgb, *frames.times[index])
            on_progress(Progress("upscale", index + 1, reader.info.frames or 0))
        if writer is None:
            raise InputError(
                f"No frame of {reader.path} is left.",
                "Check that it plays elsewhere, and which frames the recipe keeps.",
            )
        return writer.close()
    except BaseException:
        if writer is not None:
            writer.abort()
        raise


def clip_name(source: Path) -> str:
    """The name under which a file's parameters are drawn."""
    return source.resolve().stem


def _record(
    source: Path, output: Path, degradation: Degradation, frames: int, warnings: list[str]
) -> dict[str, Any]:
    name = clip_name(source)
    return {
        "input": str(source),
        "output": str(output),
        "frames": frames,
        "scale": degradation.scale,
        "seed": degradation.seed,
        "clip": name,
        "recipe": describe(degradation.recipe),
        "drawn": degradation.describe(name),
        "warnings": warnings,
    }
