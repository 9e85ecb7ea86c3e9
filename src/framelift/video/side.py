"""Everything of the source that is not the upscaled picture: copied, packet by packet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from framelift.video.containers import clean_metadata, copy_stream, fits
from framelift.video.open import open_input
from framelift.video.probe import is_cover, label, pictures
from framelift.video.timeline import Clock, Timeline, read_packets

_MIME = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


@dataclass(frozen=True)
class Span:
    """The part of a source that was upscaled, in seconds; `None` as end means to the end."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is cut and nothing shifted."""
        return self.end is None


def add_side_streams(
    source: InputContainer, path: Path, output: OutputContainer, warnings: list[str]
) -> dict[int, Stream]:
    """Add a copy of every stream of the open file `path` but the pictures.

    Returns output streams by source index; `warnings` names what the container cannot hold.
    """
    copies: dict[int, Stream] = {}
    form = output.format.name
    rest = {s.index for s in pictures(source)}
    for stream in source.streams:
        if stream.index in rest or _is_own_chapters(source, stream):
            continue
        if form == "matroska" and is_cover(stream) and _attach_cover(path, output, stream):
            continue
        if fits(form, stream):
            copies[stream.index] = copy_stream(output, stream)
        else:
            warnings.append(f"The {_describe(stream)} is left out: {form} cannot hold it.")
    return copies


def _describe(stream: Stream) -> str:
    kind = "cover picture" if is_cover(stream) else f"{stream.type} stream"
    if stream.type == "attachment":
        kind = "attachment"
    return f"{kind} #{stream.index} ({stream.metadata.get('filename') or label(stream)})"


def _is_own_chapters(source: InputContainer, stream: Stream) -> bool:
    """mp4 keeps chapters twice; the copy in a text track is written anew from the list."""
    return stream.type == "data" and stream.name == "bin_data" and bool(source.chapters())


def _attach_cover(path: Path, output: OutputContainer, stream: Stream) -> bool:
    """Matroska keeps cover art as an attached file."""
    name, mime = _MIME.get(stream.codec_context.codec.canonical_name, (None, None))
    if name is None or mime is None:
        return False
    with open_input(path) as source:
        cover = next(p for p in source.demux(source.streams[stream.index]) if p.size)
        output.add_attachment(stream.metadata.get("filename", name), mime, bytes(cover))
    return True


def copy_chapters(
    source: InputContainer, output: OutputContainer, span: Span, timeline: Timeline
) -> None:
    """Copy the chapters that overlap the span."""
    chapters: list[Any] = []
    for chapter in source.chapters():
        base = chapter["time_base"] or Fraction(1, 1000)
        shift = timeline.shifts[0] - span.start
        start, end = chapter["start"] * base + shift, chapter["end"] * base + shift
        length = None if span.end is None else span.end - span.start
        if length is not None and (end <= 0 or start >= length):
            continue
        if length is not None:
            start, end = max(start, Fraction(0)), min(end, length)
        moved = {"start": round(start / base), "end": round(end / base)}
        chapters.append({**chapter, **moved, "time_base": base})
    if chapters:
        output.set_chapters(chapters)


def copy_metadata(source: InputContainer, output: OutputContainer) -> None:
    """Copy what the container as a whole says about itself."""
    output.metadata.update(clean_metadata(source.metadata))


def side_packets(
    source: InputContainer, copies: dict[int, Stream], span: Span, timeline: Timeline
) -> Iterator[Packet]:
    """Yield the packets of the copied streams on the timeline, moved so that the span starts at 0.

    Packets outside the span are dropped; those that overlap it are kept. Decoding times are made
    to increase, since containers insist on it; the data of packets is untouched.
    """
    for stream in source.streams:
        stream.discard = Discard.default if stream.index in copies else Discard.all
    last: dict[int, int] = {}
    clock = Clock(timeline)
    for packet in read_packets(source, _chosen(source, copies)):
        if is_cover(packet.stream) and packet.size:
            packet.pts = packet.dts = 0
            packet.stream = copies[packet.stream_index]
            yield packet
            continue
        clock.move(packet)
        if packet.pts is None and packet.dts is None:
            continue
        dts = packet.dts if packet.dts is not None else packet.pts
        pts = packet.pts if packet.pts is not None else packet.dts
        assert dts is not None
        assert pts is not None
        base = packet.time_base
        if not span.whole:
            begin, end = pts * base, (pts + (packet.duration or 0)) * base
            outside = (span.end is not None and begin >= span.end) or end < span.start
            if outside or (end == span.start and begin < end):
                continue
            shift = round(span.start / base)
            pts, dts = pts - shift, dts - shift
            if packet.stream.type == "subtitle" and pts < 0:
                packet.duration = max(0, (packet.duration or 0) + pts)
                pts = dts = 0
        index = packet.stream_index
        packet.dts = dts = max(dts, last.get(index, dts - 1) + 1)
        packet.pts = max(pts, dts)
        last[index] = dts
        packet.stream = copies[index]
        yield packet


def _chosen(source: InputContainer, copies: dict[int, Stream]) -> Sequence[Stream]:
    return [stream for stream in source.streams if stream.index in copies]
