"""Packet-wise decoding that survives damage."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import av.error
from av import Packet, VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from framelift.errors import InputError
from framelift.types import VideoInfo


@dataclass
class Damage:
    """What went wrong while decoding, and how far the packets of all streams reached.

    `ends` maps stream indices to the largest end of a packet, in seconds.
    """

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
    """A decoded frame to be shown at `pts` (None if unknown); `repaired` if it stands in."""

    pts: int | None
    frame: VideoFrame
    repaired: bool = False


_HELD = 16  # pictures that may wait for their turn after damage
_LASTING = 10  # pictures of another size after which the video has really changed
_PATIENCE = 8  # errors in a row after which a file counts as broken off
_CUT_ANYWHERE = ("mpegts", "mpeg")  # recordings that may begin between key frames


def decode(
    container: InputContainer, stream: VideoStream, info: VideoInfo, damage: Damage
) -> Iterator[Picture]:
    """Yield the pictures of `stream` in presentation order, filling those that damage cost.

    A damaged packet is counted in `damage`; where its picture is missing, the last good one (at
    the very start: the first good one) stands in. Raises InputError if the picture changes its
    size for good.
    """
    repair = _Repair(info, damage)
    for packet in _packets(container, stream, damage):
        repair.expect(packet)
        yield from repair.place(_decode(stream, packet, damage), packet.dts)
    yield from repair.place(_decode(stream, None, damage), None)
    yield from repair.finish()


def usual_step(info: VideoInfo) -> int:
    """The time between two pictures at the video's rate, in its time base, at least 1."""
    return max(1, round(1 / (info.rate * info.time_base)))


def _packets(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[Packet]:
    """The non-empty packets of `stream`; notes on the way how far every stream reaches.

    Reads on after an error, until the end or too many errors in a row.
    """
    errors = 0
    while errors < _PATIENCE:
        try:
            for packet in container.demux():
                if packet.size:
                    errors = 0
                    damage.reached(packet)
                    if packet.stream_index == stream.index:
                        yield packet
            break
        except IndexError:  # PyAV at the end, if streams appeared on the way
            break
        except av.error.FFmpegError:
            errors += 1
    damage.broken_off = errors > 0


def _decode(stream: VideoStream, packet: Packet | None, damage: Damage) -> list[VideoFrame]:
    try:
        return stream.codec_context.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.FFmpegError:
        damage.bad_packets += 1
        return []


class _Repair:
    """Finds pictures that were announced by a packet but never came out of the decoder.

    Some packets never show: second fields, hidden frames, what precedes the first key frame of a
    cut recording. So without an error only a packet in a gap between pictures counts as lost.
    """

    def __init__(self, info: VideoInfo, damage: Damage) -> None:
        self._info = info
        self._step = usual_step(info)
        self._damage = damage
        self._pending: list[int] = []
        self._filled: set[int] = set()
        self._held: list[Picture] = []
        self._first: int | None = None
        self._resized = 0
        self._last: Picture | None = None
        self._hidden = False

    def expect(self, packet: Packet) -> None:
        """Note the time that a packet announces."""
        if packet.pts is None or packet.is_discard:
            return
        heapq.heappush(self._pending, packet.pts)
        if self._first is None and (
            packet.is_keyframe or self._info.container not in _CUT_ANYWHERE
        ):
            self._first = packet.pts

    def place(self, frames: list[VideoFrame], dts: int | None) -> Iterator[Picture]:
        """Yield decoded frames, each after those that should have come before it.

        A decoder that met damage may hand out frames early: they are held until the packets have
        reached their time, `dts`.
        """
        for frame in frames:
            if not self._is_foreign(frame):
                pts = frame.pts if frame.pts is not None else frame.dts
                self._held.append(Picture(pts, frame))
        if self._damage.bad_packets:
            self._held.sort(key=lambda picture: -1 if picture.pts is None else picture.pts)
        while self._held and self._is_due(self._held[0], dts):
            yield from self._show(self._held.pop(0))

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
        if self._last is None:
            return sorted(p for p in lost if self._first is not None and p >= self._first)
        last = self._last.pts
        lost = {p for p in lost if last is None or p > last}
        gap = last is not None and pts - last > 1.5 * self._step
        if not gap and not self._damage.bad_packets:
            self._hidden = self._hidden or bool(lost)
        return sorted(lost) if gap or (self._damage.bad_packets and not self._hidden) else []
