"""Re-open a finished file and make sure that it holds what it should."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from framelift.errors import FrameliftError
from framelift.video.open import open_input
from framelift.video.probe import video_stream


def verify(output: Path, frames: int, pts: Sequence[int], time_base: Fraction) -> None:
    """Check frame count and all timestamps of a video, and that its two ends decode.

    `pts` are the expected presentation times in `time_base`, increasing; the file may differ by
    the rounding to its own time base. Raises FrameliftError on any difference.
    """
    try:
        with open_input(output) as container:
            stream = video_stream(container, output)
            found = sorted(p.pts for p in container.demux(stream) if p.size and p.pts is not None)
            if len(found) != frames:
                _fail(output, f"{len(found)} frames instead of {frames}")
            _compare(output, found, stream.time_base or Fraction(1, 1000), pts, time_base)
            if found:
                _decodes(container, stream, output, found)
    except (av.error.FFmpegError, ValueError) as error:
        _fail(output, f"it cannot be read back ({error})")


def _compare(
    output: Path, found: Sequence[int], tick: Fraction, pts: Sequence[int], time_base: Fraction
) -> None:
    for index, (got, wanted) in enumerate(zip(found, pts, strict=True)):
        if abs(got * tick - wanted * time_base) > tick / 2:
            _fail(
                output,
                f"frame {index} is at {float(got * tick):.6f} s instead of "
                f"{float(wanted * time_base):.6f} s",
            )


def _decodes(
    container: InputContainer, stream: VideoStream, output: Path, found: Sequence[int]
) -> None:
    container.seek(found[0], stream=stream)
    if next(container.decode(stream)).pts != found[0]:
        _fail(output, "its first frame does not decode")
    container.seek(found[-1], stream=stream)
    last = None
    for frame in container.decode(stream):
        last = frame.pts
    if last != found[-1]:
        _fail(output, "its last frame does not decode")


def _fail(output: Path, problem: str) -> NoReturn:
    raise FrameliftError(
        f"The finished file {output.name} is wrong: {problem}.",
        "Nothing was published. Please report this together with the command you ran.",
    )
