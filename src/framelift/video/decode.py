"""Packet-wise decoding that survives damage."""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import av.error
from av import Packet, VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from framelift.errors import InputError
from framelift.types import VideoInfo
from framelift.video.timeline import Clock, Timeline, has_no_times, read_packets


@dataclass
class Damage:
    """What went wrong while decoding, and how far the packets of all streams reached.

    `ends` maps stream indices to the largest end of a packet, in seconds; `packets` counts those
    of the pictures.
    """

    packets: int = 0
    bad_packets: int = 0
    broken_off: bool = False
    ends: dict[int, float] = field(default_factory=dict)

    def reached(self, packet: Packet) -> None:
        """Note the end of a packet."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None and packet.time_base:
            end = float((stamp + (packet.duration or 0)) * packet.time_base)
            index = packet.stream_index
            self.ends[index] = max(end, self.ends.get(index, end))


@dataclass(frozen=True)
class Picture:
    """A decoded frame to be shown at `pts` (None if unknown).

    `repaired` if it stands in for another, `corrupt` if the decoder says that it is damaged.
    """

    pts: int | None
    frame: VideoFrame
    repaired: bool = False
    corrupt: bool = False


_HELD = 16  # pictures that may wait for their turn after damage
_LASTING = 10  # pictures of another size after which the video has really changed
_CUT_ANYWHERE = ("mpegts", "mpeg")  # recordings that may begin between key frames
_ONE_FOR_ONE = ("mpeg4", "msmpeg4", "h263")  # decoders that hand out a picture for every packet


def decode(
    container: InputContainer,
    stream: VideoStream,
    info: VideoInfo,
    timeline: Timeline,
    damage: Damage,
) -> Iterator[Picture]:
    """Yield the pictures of `stream` as they are shown, at the timeline's times.

    A damaged packet is counted in `damage`; where its picture is missing, or the file has a hole,
    the last good one (at the very start: the first good one) stands in. Raises InputError if the
    picture changes its size for good.
    """
    timed = not has_no_times(container, stream)
    order = _Repair(info, timeline, damage) if timed else _InTurn(info, timeline, damage)
    for packet in _packets(container, stream, timeline, damage):
        order.expect(packet)
        failures = damage.bad_packets
        frames = _decode(stream, packet, damage)
        yield from order.place(frames, packet, damage.bad_packets > failures)
    yield from order.place(_decode(stream, None, damage), None, False)
    yield from order.finish()


def usual_step(info: VideoInfo) -> int:
    """The time between two pictures at the video's rate, in its time base, at least 1."""
    return max(1, round(1 / (info.rate * info.time_base)))


def _packets(
    container: InputContainer, stream: VideoStream, timeline: Timeline, damage: Damage
) -> Iterator[Packet]:
    """The packets of `stream` on the timeline; notes on the way how far every stream reaches."""
    clock, packets = Clock(timeline), read_packets(container)
    while True:
        try:
            packet = next(packets)
        except StopIteration as end:
            damage.broken_off = end.value
            return
        damage.reached(packet)
        if packet.stream_index == stream.index:
            damage.packets += 1
            clock.move(packet)
            yield packet


def _decode(stream: VideoStream, packet: Packet | None, damage: Damage) -> list[VideoFrame]:
    try:
        return stream.codec_context.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.FFmpegError:
        damage.bad_packets += 1
        return []


class _Order:
    """Puts decoded frames in their places; refuses those of another size."""

    def __init__(self, info: VideoInfo, damage: Damage) -> None:
        self._info = info
        self._damage = damage
        self._resized = 0

    def _fitting(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        return [frame for frame in frames if not self._is_foreign(frame)]

    def _is_foreign(self, frame: VideoFrame) -> bool:
        """Whether a frame has another size than the video: damage, or a change if it lasts."""
        size = self._info.width, self._info.height
        if (frame.width, frame.height) == size:
            self._resized = 0
            return False
        self._damage.bad_packets += 1
        self._resized += 1
        if self._resized >= _LASTING:
            raise InputError(
                f"The picture of {self._info.path} changes from {size[0]}x{size[1]} to "
                f"{frame.width}x{frame.height} on the way.",
                "Split the video there and upscale the parts.",
            )
        return True


class _InTurn(_Order):
    """Order for files that tell only when packets are decoded, or nothing: the decoder's.

    The n-th picture takes the n-th of the decoding times; those of packets that hold no picture
    (repeats of the last one) are skipped. A picture that comes late, after another stood in for
    it, is dropped.
    """

    def __init__(self, info: VideoInfo, timeline: Timeline, damage: Damage) -> None:
        super().__init__(info, damage)
        self._slots: deque[int | None] = deque()
        self._lost = deque(pts for hole in timeline.holes for pts in hole.missing)
        self._counted = info.container == "avi" or info.container.startswith("matroska")
        self._owed = self._stood_in = 0
        self._last: VideoFrame | None = None

    def expect(self, packet: Packet) -> None:
        """Note the decoding time of a packet, and of those that are missing before it."""
        while self._lost and packet.dts is not None and self._lost[0] < packet.dts:
            self._slots.append(self._lost.popleft())
            self._owed += 1
        self._slots.append(packet.dts if self._counted else None)

    def place(
        self, frames: list[VideoFrame], packet: Packet | None, failed: bool
    ) -> Iterator[Picture]:
        """Yield decoded frames, and the last one again for each packet that failed."""
        fitting = self._fitting(frames)
        self._owed += failed or len(fitting) < len(frames)
        if self._last is None and not fitting:
            return
        for _ in range(self._owed):
            yield Picture(self._turn(), self._last or fitting[0], repaired=True)
        self._stood_in += self._owed
        self._owed = 0
        for frame in fitting:
            if self._stood_in and not self._slots:
                self._stood_in -= 1
                continue
            yield Picture(self._turn(), frame, corrupt=frame.is_corrupt)
            self._last = frame
        if not frames and not failed and packet and self._info.codec.startswith(_ONE_FOR_ONE):
            if self._is_damaged:  # it refers to what is lost
                self._owed += 1
            else:
                self._turn()

    @property
    def _is_damaged(self) -> bool:
        return bool(self._damage.bad_packets or self._stood_in or self._owed)

    def _turn(self) -> int | None:
        return self._slots.popleft() if self._slots else None

    def finish(self) -> Iterator[Picture]:
        """Yield stand-ins for pictures that are missing at the end."""
        left = self._slots if self._is_damaged and len(self._slots) <= _HELD else ()
        if self._last is not None:
            for pts in (*left, *self._lost):
                yield Picture(pts, self._last, repaired=True)


class _Repair(_Order):
    """Finds pictures that were announced by a packet but never came out of the decoder.

    Some packets never show: second fields, hidden frames, what precedes the first key frame of a
    cut recording. So without an error only a packet in a gap between pictures counts as lost.
    Pictures in holes of the timeline count as announced.
    """

    def __init__(self, info: VideoInfo, timeline: Timeline, damage: Damage) -> None:
        super().__init__(info, damage)
        self._step = usual_step(info)
        self._seams = timeline.seams
        self._holes = {pts for hole in timeline.holes for pts in hole.missing}
        self._pending = sorted(self._holes)
        self._filled: set[int] = set()
        self._held: list[Picture] = []
        self._first: int | None = None
        self._key: int | None = None
        self._last: Picture | None = None
        self._hidden = False

    def expect(self, packet: Packet) -> None:
        """Note the time that a packet announces."""
        if packet.pts is None or packet.is_discard:
            return
        heapq.heappush(self._pending, packet.pts)
        if self._key is None and packet.is_keyframe:
            self._key = packet.pts
        if self._first is None and (
            packet.is_keyframe or self._info.container not in _CUT_ANYWHERE
        ):
            self._first = packet.pts

    def place(
        self, frames: list[VideoFrame], packet: Packet | None, failed: bool
    ) -> Iterator[Picture]:
        """Yield decoded frames, each after those that should have come before it.

        A decoder that met damage may hand out frames early: they are held until the packets have
        reached their time.
        """
        for frame in self._fitting(frames):
            pts = frame.pts if frame.pts is not None else frame.dts
            self._held.append(Picture(pts, frame, corrupt=self._is_corrupt(frame, pts)))
        if self._damage.bad_packets:
            self._held.sort(key=lambda picture: -1 if picture.pts is None else picture.pts)
        while self._held and self._is_due(self._held[0], packet.dts if packet else None):
            yield from self._show(self._held.pop(0))

    def _is_corrupt(self, frame: VideoFrame, pts: int | None) -> bool:
        """Whether a picture is damaged, and not just cut off from what precedes a recording."""
        if not frame.is_corrupt or pts in self._seams:
            return False
        return pts is None or self._key is None or pts >= self._key

    def _is_due(self, picture: Picture, dts: int | None) -> bool:
        if not self._damage.bad_packets or picture.pts is None or len(self._held) > _HELD:
            return True
        return dts is not None and picture.pts <= dts

    def _show(self, picture: Picture) -> Iterator[Picture]:
        if picture.pts in self._filled:
            return  # it came too late: its place is taken
        missing = [] if picture.pts is None else self._missing(picture.pts)
        yield from self._stand_ins(missing, self._last.frame if self._last else picture.frame)
        self._last = picture
        yield picture

    def finish(self) -> Iterator[Picture]:
        """Yield what is still held, and stand-ins for what is missing at the end."""
        for picture in self._held:
            yield from self._show(picture)
        if self._last is not None and self._last.pts is not None and self._pending:
            end = max(self._pending) + self._step
            yield from self._stand_ins(self._missing(end), self._last.frame)

    def _stand_ins(self, missing: list[int], frame: VideoFrame) -> Iterator[Picture]:
        self._filled.update(missing)
        yield from (Picture(pts, frame, repaired=True) for pts in missing)

    def _missing(self, pts: int) -> list[int]:
        """Take what was announced up to `pts`; return what of it is lost, without `pts` itself."""
        lost: set[int] = set()
        while self._pending and self._pending[0] <= pts:
            lost.add(heapq.heappop(self._pending))
        lost.discard(pts)
        if self._last is None and not self._damage.bad_packets:
            return []  # a recording cut within a group of pictures
        if self._last is None:
            return sorted(p for p in lost if self._first is not None and p >= self._first)
        last = self._last.pts
        lost = {p for p in lost if last is None or p > last}
        gap = last is not None and pts - last > 1.5 * self._step
        if not gap and not self._damage.bad_packets:
            self._hidden = self._hidden or bool(lost - self._holes)
        certain = gap or (self._damage.bad_packets and not self._hidden)
        return sorted(lost if certain else lost & self._holes)
