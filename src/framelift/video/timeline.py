"""When everything in a file is really shown: one pass over its packets, without decoding.

Clocks of recordings start anywhere, wrap, or start again where two files were joined. A timeline
says what to subtract, the same for pictures, sound and subtitles, so that their offsets stay.
"""

import bisect
import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av.error
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from framelift.video.holes import Hole, Traces, find_holes

_PATIENCE = 8  # errors in a row after which a file counts as broken off
_LATE = 10  # seconds: a first time beyond that is a clock's, and no pause before the video
_EARLY = -1  # seconds that sound may begin before 0: containers keep that much
_BACK = 0.5  # seconds by which times must fall to be another clock
_FORWARD = 10.0  # seconds by which they must leap, in formats whose clocks may
_WAIT = 60.0  # seconds between decoding and showing a picture, at most
_SURE = 3  # packets that a new clock needs; fewer are stray times of damaged packets
_CHUNK = 8  # bytes of a chunk's head in AVI, to which the index points
_INDEXED = ("mov", "gif", "apng", "webp", "mxf")  # times come from an index or a count


def read_packets(
    container: InputContainer, streams: Sequence[Stream] | None = None
) -> Generator[Packet, None, bool]:
    """Yield the non-empty packets of `streams` (all, if None), reading on after errors.

    Returns whether the file broke off: its end could not be read, or errors would not end.
    """
    errors = 0
    while errors < _PATIENCE:
        try:
            for packet in container.demux() if streams is None else container.demux(streams):
                if packet.size:
                    errors = 0
                    yield packet
            break
        except IndexError:  # PyAV at the end, if streams appeared on the way
            break
        except av.error.FFmpegError:
            errors += 1
    return errors > 0


def _shown(packet: Packet) -> int | None:
    """When a packet is shown; its decoding time if that is unknown, or guessed from a later clock.

    (At a joint, libav reckons the times of the last pictures back from the next time it reads.)
    """
    pts, dts = packet.pts, packet.dts
    if pts is None or dts is None:
        return dts if pts is None else pts
    return pts if -_BACK <= float((pts - dts) * packet.time_base) <= _WAIT else dts


def has_no_times(container: InputContainer, stream: VideoStream) -> bool:
    """Whether pictures carry no presentation times, so that those of libav are guesses."""
    old = container.format.name.startswith("matroska") and stream.codec_context.codec_tag in _VFW
    raw = bool(container.format.flags & Flags.no_timestamps.value)
    return raw or old or container.format.name == "avi"


_VFW = ("XVID", "DIVX", "DX50", "FMP4", "DIV3", "H264", "X264", "xvid", "divx")  # in Matroska


@dataclass(frozen=True)
class Timeline:
    """How raw times become those of the result.

    From byte `bounds[i]` of the file on, `shifts[i + 1]` seconds are added; `shifts[0]` before.
    `strays` are raw decoding times by stream index that make no sense. `seams` are the pictures
    before the joints of recordings, `holes` where pictures are missing; both in the result's times.
    """

    shifts: tuple[Fraction, ...] = (Fraction(0),)
    bounds: tuple[int, ...] = ()
    strays: frozenset[tuple[int, int]] = frozenset()
    seams: frozenset[int] = frozenset()
    holes: tuple[Hole, ...] = ()

    def shift(self, place: int, time_base: Fraction) -> int:
        """What to add to a raw time of a packet at byte `place`, in `time_base`."""
        return round(self.shifts[bisect.bisect_right(self.bounds, place)] / time_base)


@dataclass
class Clock:
    """Moves the packets of one pass, in the order of the file, to the times of the result."""

    timeline: Timeline
    _places: dict[int, int] = field(default_factory=dict)

    def move(self, packet: Packet) -> None:
        """Change the times of a packet in place; unknown ones stay unknown."""
        index, timeline = packet.stream_index, self.timeline
        place = packet.pos if packet.pos is not None else self._places.get(index, 0)
        self._places[index] = place
        dts, pts = packet.dts, None if packet.pts is None else _shown(packet)
        if dts is not None and (index, dts) in timeline.strays:
            packet.pts = packet.dts = None
        elif (shift := timeline.shift(place, packet.time_base)) or pts != packet.pts:
            packet.pts = None if pts is None else pts + shift
            packet.dts = None if dts is None else dts + shift


@dataclass
class _Run:
    """Packets of one stream on one clock: the bytes and times that they span.

    `latest` is the largest decoding time, `tail` the presentation time of the last packet.
    """

    first: int
    last: int
    start: int
    end: int
    latest: int
    tail: int
    dts: list[int] = field(default_factory=list)
    count: int = 0


@dataclass
class _Track:
    """The runs of a stream of pictures or sound, found packet by packet."""

    stream: Stream
    leaps: bool
    runs: list[_Run] = field(default_factory=list)
    strays: set[tuple[int, int]] = field(default_factory=set)
    early: int | None = None

    def add(self, place: int, dts: int | None, pts: int, duration: int) -> None:
        """Note a packet at byte `place`; the first ones may lack a decoding time."""
        if dts is None:
            self.early = pts if self.early is None else min(self.early, pts)
            return
        if not self.runs or self._jumps(self.runs[-1], place, dts):
            short = len(self.runs) > 1 and self.runs[-1].count < _SURE
            if short and not self._jumps(self.runs[-2], place, dts):
                self._drop()
            else:
                self.runs.append(_Run(place, place, pts, pts + duration, dts, pts))
        run = self.runs[-1]
        run.last, run.latest, run.count = place, max(run.latest, dts), run.count + 1
        run.tail = pts
        run.start, run.end = min(run.start, pts), max(run.end, pts + duration)
        if len(run.dts) < _SURE:
            run.dts.append(dts)

    def finish(self) -> None:
        """Drop a last run that is too short to be trusted; complete the first."""
        if self.runs and self.early is not None:
            self.runs[0].start = min(self.runs[0].start, self.early)
        if len(self.runs) > 1 and self.runs[-1].count < _SURE:
            self._drop()

    def _drop(self) -> None:
        self.strays.update((self.stream.index, dts) for dts in self.runs.pop().dts)

    def _jumps(self, run: _Run, place: int, dts: int) -> bool:
        base = float(self.stream.time_base or 1)
        seconds = (dts - run.latest) * base
        if seconds < -_BACK or seconds <= _FORWARD or not self.leaps:
            return seconds < -_BACK
        past = (run.latest - run.dts[0]) * base
        pace = (run.last - run.first) / past if past > 1 else 0.0  # bytes a second
        return place - run.last < 0.3 * pace * seconds or not pace  # else the bytes are there


def scan(container: InputContainer, stream: VideoStream) -> Timeline:
    """Find the timeline of an open file whose pictures are `stream`; reads it to the end."""
    if container.format.name == "avi":
        return _by_index(container, stream)
    if has_no_times(container, stream):
        return Timeline()
    if container.format.name.startswith(_INDEXED):
        firsts = [
            (s.start_time * s.time_base, s.type == "video")
            for s in (stream, *container.streams.audio)
            if s.start_time is not None and s.time_base
        ]
        return Timeline((_origin(firsts),))
    leaps = bool(container.format.flags & Flags.ts_discont.value)
    tracks = {s.index: _Track(s, leaps) for s in (stream, *container.streams.audio)}
    traces = Traces(stream, container.format.name)
    places: dict[int, int] = {}
    for packet in read_packets(container):
        index = packet.stream_index
        place = packet.pos if packet.pos is not None else places.get(index, 0)
        places[index] = place
        traces.note_bytes(place, packet)
        pts = _shown(packet)
        if index in tracks and pts is not None and not packet.is_discard:
            tracks[index].add(place, packet.dts, pts, packet.duration or 0)
            traces.note_time(place, pts, packet)
    return _conclude(list(tracks.values()), stream, traces)


def _by_index(container: InputContainer, stream: VideoStream) -> Timeline:
    """The timeline of an AVI file, whose packets have no times but their number.

    Behind damage the numbers are too small by what was lost. The index, if it is there, tells how
    much that is; the sound beside it is moved alike.
    """
    base = stream.time_base or Fraction(1)
    index = {entry.pos + _CHUNK: entry.timestamp for entry in stream.index_entries if entry.size}
    if len(index) < stream.frames / 2:
        return Timeline()
    seen: set[int] = set()
    bounds, shifts = [], [Fraction(0)]
    for packet in read_packets(container, (stream,)):
        number = index.get(packet.pos or 0)
        if number is None or packet.dts is None:
            continue
        seen.add(number)
        if (number - packet.dts) * base != shifts[-1]:
            bounds.append(packet.pos or 0)
            shifts.append((number - packet.dts) * base)
    holes: list[Hole] = []
    before = -1
    for number in sorted(index.values()):
        if number in seen:
            before = number
        elif holes and holes[-1].before == before:
            holes[-1] = Hole(before, number + 1, (*holes[-1].missing, number))
        else:
            holes.append(Hole(before, number + 1, (number,)))
    return Timeline(tuple(shifts), tuple(bounds), holes=tuple(holes))


def _conclude(tracks: list[_Track], stream: VideoStream, traces: Traces) -> Timeline:
    for track in tracks:
        track.finish()
    bounds, shifts, seams = _joints([t for t in tracks if t.runs])
    firsts = [
        (t.runs[0].start * (t.stream.time_base or Fraction(1)), t.stream is stream)
        for t in tracks
        if t.runs
    ]
    origin = _origin(firsts)
    shifts = [shift + origin for shift in shifts]
    plain = Timeline(tuple(shifts), tuple(bounds), frozenset(s for t in tracks for s in t.strays))
    edges = {p + plain.shift(b - 1, stream.time_base or Fraction(1)) for b, p in seams}
    return replace(
        plain, seams=frozenset(edges), holes=find_holes(traces, plain.shift, plain.bounds)
    )


def _origin(firsts: Sequence[tuple[Fraction, bool]]) -> Fraction:
    """What to add to all times, given the first one of each stream and whether it is the video's.

    Small offsets stay; a negative start or that of a running clock becomes 0.
    """
    if not firsts:
        return Fraction(0)
    first = min(time for time, _ in firsts)
    unseen = any(time < 0 for time, is_video in firsts if is_video)
    return -first if unseen or first < _EARLY or first > _LATE else Fraction(0)


def _joints(tracks: list[_Track]) -> tuple[list[int], list[Fraction], list[tuple[int, int]]]:
    """Bounds and shifts as in Timeline, and with each bound the raw time of the picture before.

    A joint is where the clock jumps in every stream that is there before and after. What follows
    is moved so that it begins when the last of those streams has ended.
    """
    jumps = sorted(
        (
            (track, before, after)
            for track in tracks
            for before, after in itertools.pairwise(track.runs)
            if before.last < after.first
        ),
        key=lambda jump: jump[2].first,
    )
    bounds: list[int] = []
    shifts = [Fraction(0)]
    seams: list[tuple[int, int]] = []
    while jumps:
        bound = jumps[0][2].first
        joint = [jump for jump in jumps if jump[1].last < bound]
        jumps = [jump for jump in jumps if jump[1].last >= bound]
        still = [t for t in tracks if not any(t is track for track, _, _ in joint)]
        if any(run.first < bound <= run.last for track in still for run in track.runs):
            continue
        ends = [(b.end - a.start) * (t.stream.time_base or Fraction(1)) for t, b, a in joint]
        shifts.append(max(ends) + shifts[-1])
        bounds.append(bound)
        seams += [(bound, before.tail) for t, before, _ in joint if t.stream.type == "video"]
    return bounds, shifts, seams
