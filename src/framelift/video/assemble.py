"""Put the final file together: joined segments, everything else of the source, checks, name."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from framelift.files import part_path, publish
from framelift.types import EncodeSettings, VideoInfo
from framelift.video import color
from framelift.video.containers import (
    check_output,
    clean_metadata,
    container_format,
    copy_stream,
    is_quicktime,
)
from framelift.video.convert import Track
from framelift.video.faults import reason, writing
from framelift.video.join import joined, presentation_order
from framelift.video.open import open_input
from framelift.video.probe import probe, video_stream
from framelift.video.side import (
    Span,
    add_side_streams,
    copy_chapters,
    later_timecode,
    side_packets,
)
from framelift.video.side_data import SPHERICAL, STEREO, keeps_stream_data, losses
from framelift.video.timeline import Timeline, scan
from framelift.video.verify import verify
from framelift.video.write import Segment


def finish(
    segments: Sequence[Segment],
    output: Path,
    *,
    source: Path | None,
    info: VideoInfo,
    encode: EncodeSettings,
    span: tuple[int, int] | None = None,
    metadata: dict[str, str] | None = None,
    whole: Callable[[Path, list[str]], None] = lambda part, warnings: None,
    overwrite: bool = True,
) -> list[str]:
    """Assemble beside `output`, verify, bring to the disk and only then give it its name.

    Arguments and result are those of `assemble`. `whole` hears of the verified file and of the
    warnings before it is named. Without `overwrite`, nothing that has the name by now is replaced.
    """
    part = part_path(output)
    try:
        warnings = assemble(
            segments,
            part,
            source=source,
            info=info,
            encode=encode,
            span=span,
            metadata=metadata,
        )
        shift = span[0] if span else 0
        pts = [p - shift for segment in segments for p in segment.pts]
        verify(part, len(pts), pts, info.time_base)
        whole(part, warnings)
        with writing(output):
            publish(part, output, overwrite)
    finally:
        part.unlink(missing_ok=True)
    return warnings


def assemble(
    segments: Sequence[Segment],
    output: Path,
    *,
    source: Path | None,
    info: VideoInfo,
    encode: EncodeSettings,
    span: tuple[int, int] | None = None,
    metadata: dict[str, str] | None = None,
) -> list[str]:
    """Join `segments` into the file `output` and copy everything but the pictures of `source`.

    `info` describes the source; `span` is the range of its timestamps that was upscaled, in its
    time base, and moves to 0. `metadata` is added to the container's. Returns warnings that name
    what the container could not hold.
    """
    check_output(output, encode.codec)
    warnings: list[str] = []
    orders, delay = presentation_order(segments)
    part = Span()
    if span is not None:
        part = Span(span[0] * info.time_base, span[1] * info.time_base)
    with writing(output), ExitStack() as stack:
        original = None
        if source is not None and not info.is_images:
            original = stack.enter_context(open_input(source))
        first = stack.enter_context(open_input(segments[0].path))
        told = {**(clean_metadata(original.metadata) if original else {}), **(metadata or {})}
        container = stack.enter_context(_create(output, info, told))
        video = _add_video(container, first, original, info, encode)
        tracks: dict[int, Track] = {}
        timeline = Timeline()
        if original is not None and source is not None:
            with open_input(source) as packets_only:
                timeline = scan(packets_only, video_stream(packets_only, source))
            tracks = add_side_streams(original, source, container, encode.codec, warnings)
            copy_chapters(original, container, part, timeline)
        if span is not None:
            first_pts = info.start_pts + timeline.shift(0, info.time_base)
            _move_timecode(video, span[0] - first_pts, info)
        container.metadata.update(told)
        wanted = {**told, **{k: v for k, v in video.metadata.items() if k == "timecode"}}
        packets = _on(
            joined(segments, orders, delay, info.time_base, span[0] if span else 0), video
        )
        sides = iter(())
        if original is not None and tracks:
            sides = side_packets(original, tracks, part, timeline, warnings)
        _mux(container, packets, sides, video, warnings)
        container.close()
    return warnings + _losses(output, info, wanted, encode)


def _create(output: Path, info: VideoInfo, metadata: dict[str, str]) -> OutputContainer:
    form = container_format(output)
    options = {"avoid_negative_ts": "disabled"}  # sound may begin before 0; nothing is shifted
    if SPHERICAL in info.side_data or STEREO in info.side_data:
        options["strict"] = "unofficial"  # the mp4 family holds them by Google's specification
    if is_quicktime(form):
        ticks = str(_ticks(info.time_base))
        options |= {
            "movflags": "+faststart" + "+use_metadata_tags" * any("." in key for key in metadata),
            "video_track_timescale": ticks,
            "movie_timescale": ticks,
        }
    return av.open(f"file:{output.absolute()}", "w", format=form, container_options=options)


def _ticks(time_base: Fraction) -> int:
    """Ticks a second that hold every multiple of `time_base` (mp4 counts whole ticks)."""
    return min(time_base.denominator, 2**31 - 1)


def _add_video(
    container: OutputContainer,
    segment: InputContainer,
    original: InputContainer | None,
    info: VideoInfo,
    encode: EncodeSettings,
) -> VideoStream:
    encoded = segment.streams.video[0]
    video = copy_stream(container, encoded)
    video.metadata.clear()
    if original is not None:
        old = video_stream(original, info.path)
        if keeps_stream_data(info.side_data, info, encode.codec):
            _take_stream_data(video, old, encoded)
        video.metadata.update(clean_metadata(old.metadata))
        video.disposition = old.disposition
    video.time_base = info.time_base
    context = video.codec_context
    if info.sample_aspect_ratio > 0:
        context.sample_aspect_ratio = info.sample_aspect_ratio
    tags = color.resolve(info, encoded.codec_context.height)
    color.stamp(context, color.FromRGB(encoded.codec_context.pix_fmt or "yuv420p", tags).color)
    if encoded.codec_context.codec.canonical_name == "hevc" and is_quicktime(container.format.name):
        context.codec_tag = "hvc1"  # what Apple's players insist on
    if info.rotation or info.mirrored:
        turn = -info.rotation if info.mirrored else info.rotation  # a flip reverses the angle
        video.set_display_rotation(turn, vflip=info.mirrored)
    return video


def _take_stream_data(video: VideoStream, old: VideoStream, encoded: VideoStream) -> None:
    """Give a stream of the same codec what `old` says of its projection and packing.

    PyAV sets no side data of streams, but the null filter copies it with all parameters; those of
    `encoded` are then put back.
    """
    BitStreamFilterContext("null", in_stream=old, out_stream=video)
    new, right = video.codec_context, encoded.codec_context
    new.codec_tag = "\0\0\0\0"
    new.extradata = right.extradata
    new.width, new.height, new.pix_fmt = right.width, right.height, right.pix_fmt
    new.profile, new.level = right.profile, right.level


def _move_timecode(video: VideoStream, skipped: int, info: VideoInfo) -> None:
    """Let the timecode of a video be that of its first frame, after so many ticks of the source."""
    timecode = video.metadata.pop("timecode", None)
    if timecode is not None:
        frames = round(skipped * info.time_base * info.rate)
        video.metadata["timecode"] = later_timecode(timecode, frames, info.rate) or timecode


def _on(packets: Iterator[Packet], stream: VideoStream) -> Iterator[Packet]:
    for packet in packets:
        packet.stream = stream
        yield packet


def _mux(
    container: OutputContainer,
    packets: Iterator[Packet],
    sides: Iterator[Packet],
    video: VideoStream,
    warnings: list[str],
) -> None:
    """Write all packets in the order of their decoding times."""
    refused: dict[int, int] = {}
    for packet in heapq.merge(packets, sides, key=_decoding_time):
        try:
            container.mux(packet)
        except (av.error.FFmpegError, ValueError) as error:
            if packet.stream_index == video.index or isinstance(error, (OSError, MemoryError)):
                raise
            refused[packet.stream_index] = refused.get(packet.stream_index, 0) + 1
            if refused[packet.stream_index] == 1:
                warnings.append(
                    f"Parts of stream #{packet.stream_index} could not be copied: {reason(error)}."
                )


def _decoding_time(packet: Packet) -> float:
    assert packet.dts is not None
    return float(packet.dts * packet.time_base)


def _losses(
    output: Path, info: VideoInfo, metadata: dict[str, str], encode: EncodeSettings
) -> list[str]:
    """Compare the written file with what it should hold and name what did not survive."""
    lost = []
    written = probe(output)
    if (written.rotation % 360, written.mirrored) != (info.rotation % 360, info.mirrored):
        lost.append(
            f"{output.suffix} cannot hold this rotation ({info.rotation} degrees): "
            "players will show the picture unrotated."
        )
    if written.sample_aspect_ratio != info.sample_aspect_ratio:
        others = [] if written.codec in ("h264", "hevc") else ["h264", "hevc"]
        others += [] if is_quicktime(container_format(output)) else ["mp4"]
        lost.append(
            f"{output.suffix} with {written.codec} does not keep the pixel shape "
            f"{info.sample_aspect_ratio} (it becomes {written.sample_aspect_ratio})"
            + (f"; {' or '.join(others)} may." if others else ".")
        )
    promised = [name for name in info.side_data if not losses([name], info, encode.codec)]
    for name in promised:
        if name not in written.side_data:
            lost.append(f"{output.suffix} with {written.codec} does not keep the {name}.")
    with open_input(output) as container:
        kept = {key.lower() for key in container.metadata}
        kept |= {key.lower() for stream in container.streams for key in stream.metadata}
    gone = [key for key in metadata if key.lower() not in kept]
    if gone:
        lost.append(f"{output.suffix} does not keep the metadata {', '.join(sorted(gone))}.")
    return lost
