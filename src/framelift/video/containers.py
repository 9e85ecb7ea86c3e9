"""Names of video files, which containers framelift writes, and what each of them can hold."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import av
import av.error
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.stream import Stream

from framelift.errors import UsageError
from framelift.types import Codec

AnyStream = TypeVar("AnyStream", bound=Stream)

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".f4v", ".3gp", ".3g2", ".mj2", ".ismv", ".mkv", ".mk3d"),
    *(".webm", ".avi", ".divx", ".xvid", ".amv", ".mpg", ".mpeg", ".mpe", ".mpv", ".m1v", ".m2v"),
    *(".m2p", ".vob", ".evo", ".vro", ".dat", ".mod", ".ts", ".m2t", ".m2ts", ".mts", ".tod"),
    *(".trp", ".tp", ".rec", ".pva", ".wmv", ".asf", ".dvr-ms", ".wtv", ".flv", ".ogv", ".ogm"),
    *(".rm", ".rmvb", ".ivf", ".obu", ".av1", ".264", ".h264", ".avc", ".265", ".h265", ".hevc"),
    *(".266", ".h266", ".vvc", ".h261", ".h263", ".vc1", ".rcv", ".drc", ".avs2", ".avs3"),
    *(".cavs", ".mjpeg", ".mjpg", ".mxf", ".gxf", ".dv", ".dif", ".nut", ".nuv", ".y4m", ".swf"),
    *(".bik", ".bk2", ".smk", ".roq", ".4xm", ".cine", ".mlv", ".mods", ".gif", ".apng"),
)
"""Endings of the videos that are looked for in folders."""
_FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
VIDEO_OUTPUTS = tuple(_FORMATS)
"""Endings of the videos that are written."""
_CODECS: dict[str, tuple[Codec, ...]] = {
    "mp4": ("h264", "hevc", "av1", "vp9"),
    "mov": ("h264", "hevc", "prores"),
    "matroska": ("h264", "hevc", "av1", "ffv1", "prores", "vp9"),
    "webm": ("av1", "vp9"),
}
_FAMILIAR = {
    "audio": {"mov": "opus"},
    "subtitle": {"mov": "mov_text", "mp4": "mov_text", "matroska": "subrip", "webm": "webvtt"},
}


def check_output(output: Path, codec: Codec) -> None:
    """Raise UsageError unless the container that `output` names can hold `codec`."""
    form = container_format(output)
    if codec not in _CODECS[form]:
        fitting = [suffix for suffix, name in _FORMATS.items() if codec in _CODECS[name]]
        raise UsageError(
            f"{output.suffix} files cannot hold {codec} video.",
            f"Choose another codec ({', '.join(_CODECS[form])}) or a name ending in "
            f"{' or '.join(fitting)}.",
        )


def container_format(output: Path) -> str:
    """libav's name of the container for an output name; raises UsageError if there is none."""
    form = _FORMATS.get(output.suffix.lower())
    if form is None:
        raise UsageError(
            f"{output.name} does not end in a known video format.",
            f"Use one of {', '.join(_FORMATS)}, or a folder for images.",
        )
    return form


def is_quicktime(form: str) -> bool:
    """Whether a format is one of the mp4 family, which sets its own time base."""
    return form in ("mp4", "mov")


def suffixes_for(codec: Codec) -> dict[str, str]:
    """The containers that can hold a video codec: libav's name and the usual suffix."""
    names = {name: suffix for suffix, name in reversed(_FORMATS.items())}
    return {name: names[name] for name, codecs in _CODECS.items() if codec in codecs}


def fits(form: str, add: Callable[[OutputContainer], object]) -> bool:
    """Whether a container format takes the stream that `add` adds: tried by writing a header."""
    try:
        with io.BytesIO() as sink:
            trial = av.open(sink, "w", format=form)
            try:
                add(trial)
                trial.start_encoding()
            finally:
                trial.close()
    except (av.error.FFmpegError, ValueError, RuntimeError):
        return False
    return True


def copy_stream(container: OutputContainer, stream: AnyStream) -> AnyStream:
    """Add a stream with the parameters, metadata and disposition of `stream`.

    Raises ValueError if PyAV does not know that the container can hold it.
    """
    copy = container.add_stream_from_template(stream, opaque=True)
    return describe_like(copy, stream)


def copy_verbatim(container: OutputContainer, stream: Stream) -> Stream:
    """Add a stream with the very parameters of `stream`, its tag included.

    PyAV asks libav for the container's own codecs only; Matroska holds many more under the tags
    of AVI and WMV. The stream is begun as one that every container takes, and the null filter
    then puts the parameters of `stream` in its place.
    """
    known = _FAMILIAR[stream.type]
    copy = container.add_mux_stream(known.get(container.format.name, known["mov"]))
    BitStreamFilterContext("null", in_stream=stream, out_stream=copy)
    copy.time_base = stream.time_base
    return describe_like(copy, stream)


def describe_like(copy: AnyStream, stream: Stream) -> AnyStream:
    """Give a stream the metadata and disposition of another."""
    copy.metadata.update(clean_metadata(stream.metadata))
    copy.disposition = stream.disposition
    return copy


def clean_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata without what describes the old file rather than its content."""
    stale = ("DURATION", "BPS", "NUMBER_OF_", "_STATISTICS_", "ENCODER", "VENDOR_ID", "ALPHA_MODE")
    brands = ("major_brand", "minor_version", "compatible_brands")
    return {
        key: value
        for key, value in metadata.items()
        if not key.upper().startswith(stale) and key not in brands
    }
