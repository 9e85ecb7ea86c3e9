"""Packet-wise decoding that survives damage."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import av.error
from av import Packet, VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream


@dataclass
class Damage:
    """What went wrong while decoding, and how far the packets of all streams reached.

    `ends` maps stream indices to the largest end of a packet, in seconds.
    """

    bad_packets: int = 0
    broken_off: bool = False
    ends: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A decoded frame to be shown at `pts` (None if unknown); `repaired` if it stands in."""

    pts: int | None
    frame: VideoFrame
    repaired: bool = False


def decode(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[Picture]:
    """Yield the pictures of `stream` in presentation order, filling those that damage cost.

    A damaged packet is counted in `damage`; where its picture is missing, the last good one (at
    the very start: the first good one) stands in. An error while demuxing ends the video.
    """
    repair = _Repair(damage)
    for packet in _packets(container, stream, damage):
        repair.expect(packet)
        yield from repair.place(_decode(stream, packet, damage))
    yield from repair.place(_decode(stream, None, damage))
    yield from repair.tail()


def _packets(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[Packet]:
    """The non-empty packets of `stream`; notes on the way how far every stream reaches."""
    try:
        for packet in container.demux():
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None and packet.time_base:
                end = float((stamp + (packet.duration or 0)) * packet.time_base)
                index = packet.stream_index
                damage.ends[index] = max(end, damage.ends.get(index, end))
            if packet.size and packet.stream_index == stream.index:
                yield packet
    except av.error.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        damage.broken_off = True


def _decode(stream: VideoStream, packet: Packet | None, damage: Damage) -> list[VideoFrame]:
    try:
        return stream.codec_context.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        damage.bad_packets += 1
        return []


class _Repair:
    """Finds pictures that were announced by a packet but never came out of the decoder.

    Without errors that is normal (field pairs, hidden frames, a cut start): nothing is filled.
    """

    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._pending: list[int] = []
        self._last: VideoFrame | None = None
        self._hidden = False

    def expect(self, packet: Packet) -> None:
        if packet.pts is not None and not packet.is_discard:
            heapq.heappush(self._pending, packet.pts)

    def place(self, frames: list[VideoFrame]) -> Iterator[Picture]:
        for frame in frames:
            pts = _timestamp(frame)
            for missing in self._overdue(pts):
                yield Picture(missing, self._last or frame, repaired=True)
            self._last = frame
            yield Picture(pts, frame)

    def tail(self) -> Iterator[Picture]:
        if self._last is not None:
            for missing in self._overdue(None if not self._pending else max(self._pending) + 1):
                yield Picture(missing, self._last, repaired=True)

    def _overdue(self, pts: int | None) -> list[int]:
        missing = []
        while pts is not None and self._pending and self._pending[0] <= pts:
            announced = heapq.heappop(self._pending)
            if announced < pts and announced not in missing:
                missing.append(announced)
        if not self._damage.bad_packets:
            self._hidden = self._hidden or bool(missing)
        return missing if self._damage.bad_packets and not self._hidden else []


def _timestamp(frame: VideoFrame) -> int | None:
    return frame.pts if frame.pts is not None else frame.dts
