"""Everything of the source that is not the upscaled picture: copied, packet by packet."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard

from framelift.types import Codec
from framelift.video.convert import Track
from framelift.video.probe import is_cover
from framelift.video.streams import add, decide
from framelift.video.timeline import Clock, Timeline, read_packets

_TIMECODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)")


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
    source: InputContainer, path: Path, output: OutputContainer, codec: Codec, warnings: list[str]
) -> dict[int, Track]:
    """Add every stream of the open file `path` but the pictures, as `streams.decide` says.

    Returns the tracks of the output by source index; `warnings` gets what `decide` says.
    """
    decisions, notes = decide(source, output.format.name, codec)
    warnings.extend(notes)
    tracks = {d.index: add(output, source, path, d) for d in decisions}
    return {index: track for index, track in tracks.items() if track is not None}


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


def later_timecode(timecode: str, frames: int, rate: Fraction) -> str | None:
    """The timecode so many frames after `timecode`; None if it cannot be read.

    With ";" or "." the first numbers of every minute but each tenth are left out (SMPTE ST 12-1),
    two at 29.97 frames a second and four at 59.94.
    """
    found = _TIMECODE.fullmatch(timecode)
    if found is None:
        return None
    hours, minutes, seconds, shown = (int(found[n]) for n in (1, 2, 3, 5))
    count = round(rate)
    dropped = count // 15 if found[4] != ":" and count % 30 == 0 else 0
    passed = hours * 60 + minutes
    number = (passed * 60 + seconds) * count + shown - dropped * (passed - passed // 10) + frames
    if dropped:
        tens, rest = divmod(number, 600 * count - 9 * dropped)
        inside = max(0, rest - 60 * count) // (60 * count - dropped) + (rest >= 60 * count)
        number += dropped * (9 * tens + inside)
    number %= 24 * 3600 * count
    seconds, shown = divmod(number, count)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{found[4]}{shown:02}"


def side_packets(
    source: InputContainer,
    tracks: dict[int, Track],
    span: Span,
    timeline: Timeline,
    warnings: list[str],
) -> Iterator[Packet]:
    """Yield the packets of the side streams on the timeline, moved so that the span starts at 0.

    Packets outside the span are dropped; those that overlap it are kept. Decoding times are made
    to increase, since containers insist on it. `warnings` gets what could not be read.
    """
    for stream in source.streams:
        stream.discard = Discard.default if stream.index in tracks else Discard.all
    last: dict[int, int] = {}
    clock = Clock(timeline)
    damaged: Counter[int] = Counter()
    for packet in _readable(source, tracks, warnings):
        index = packet.stream_index
        if is_cover(packet.stream):
            packet.pts = packet.dts = 0
        else:
            clock.move(packet)
            if not _move(packet, span):
                continue
        try:
            converted = list(tracks[index].convert(packet))
        except (av.error.FFmpegError, ValueError):
            damaged[index] += 1
            continue
        for new in converted:
            assert new.pts is not None
            assert new.dts is not None
            new.dts = max(new.dts, last.get(index, new.dts - 1) + 1)
            new.pts = max(new.pts, new.dts)
            last[index] = new.dts
            new.stream = tracks[index].stream
            yield new
    for index, count in damaged.items():
        warnings.append(f"{count} packets of stream #{index} were damaged and are left out.")


def _readable(
    source: InputContainer, tracks: dict[int, Track], warnings: list[str]
) -> Iterator[Packet]:
    """The non-empty packets of the side streams, read on after errors as long as it helps."""
    streams = [stream for stream in source.streams if stream.index in tracks]
    broken_off = yield from read_packets(source, streams)
    if broken_off:
        warnings.append("Sound and other streams end early: the rest of the file cannot be read.")


def _move(packet: Packet, span: Span) -> bool:
    """Complete a packet's times and move them; False for one outside the span or without times."""
    dts = packet.dts if packet.dts is not None else packet.pts
    pts = packet.pts if packet.pts is not None else packet.dts
    if dts is None or pts is None:
        return False
    if not span.whole:
        base = packet.time_base
        begin, end = pts * base, (pts + (packet.duration or 0)) * base
        outside = (span.end is not None and begin >= span.end) or end < span.start
        if outside or (end == span.start and begin < end):
            return False
        shift = round(span.start / base)
        pts, dts = pts - shift, dts - shift
        if packet.stream.type == "subtitle" and pts < 0:
            packet.duration = max(0, (packet.duration or 0) + pts)
            pts = dts = 0
    packet.pts, packet.dts = pts, dts
    return True
