"""Where pictures are missing from a file though nothing failed to decode."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

Shift = Callable[[int, Fraction], int]
"""What to add to a raw time of a packet at a byte of the file, in a time base."""

_DENSE = ("matroska", "flv")  # formats without filling, where unused bytes tell of damage
_OVERHEAD = 64  # bytes that such formats put before a packet, at most
_STEADY = 0.8  # share of equal steps from which on the rate counts as constant
_WIDE = 1.75  # steps: telecined film alternates between 1 and 1.5
_REACH = 16  # pictures by which times and bytes may differ in order
_LONGEST = 60  # seconds that stand-ins fill at most


@dataclass(frozen=True)
class Hole:
    """Pictures missing between two times; `missing` are their times where the rate tells them."""

    before: int
    after: int
    missing: tuple[int, ...]


@dataclass
class Traces:
    """What a pass over the packets of a file leaves of them.

    `scars` are places (bytes) at which the file shows damage; `pauses` of sound are (place, end of
    one packet, start of the next), in the time base of their stream.
    """

    video: VideoStream
    form: str
    pts: "array[int]" = field(default_factory=lambda: array("q"))
    places: "array[int]" = field(default_factory=lambda: array("q"))
    lasting: dict[int, int] = field(default_factory=dict)
    scars: list[int] = field(default_factory=list)
    pauses: list[tuple[int, int, int, Fraction]] = field(default_factory=list)
    heard: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    bases: dict[int, Fraction] = field(default_factory=dict)
    _reached: int = 0
    _usual: int = 0

    def note_bytes(self, place: int, packet: Packet) -> None:
        """Look for bytes before a packet that belong to nothing, and for the demuxer's mark."""
        unused = place - self._reached if self._reached else 0
        self._reached = place + packet.size
        if packet.is_corrupt or (unused > _OVERHEAD and self.form.startswith(_DENSE)):
            self.scars.append(place)

    def note_time(self, place: int, pts: int, packet: Packet) -> None:
        """Note the time of a picture, or a pause of the sound."""
        duration = packet.duration or 0
        if packet.stream_index == self.video.index:
            self._usual = self._usual or duration
            self.pts.append(pts)
            self.places.append(place)
            if duration > 1.5 * self._usual:  # the file itself tells of a pause
                self.lasting[pts] = duration
            return
        index, base = packet.stream_index, packet.time_base
        self.bases[index] = base
        ends = self.heard.setdefault(index, [(place, pts)])
        if pts - ends[-1][1] > max(0.75 * duration, 0.01 / base):
            self.pauses.append((place, ends[-1][1], pts, base))
        if len(ends) == 1:
            ends.append((place, pts + duration))
        else:
            ends[1] = place, pts + duration


def find_holes(traces: Traces, shift: Shift, bounds: Sequence[int]) -> tuple[Hole, ...]:
    """The holes of a video: gaps in its times that nothing but missing pictures explains.

    A gap is a pause, not a hole, where the packet before it says that it lasts, or where the
    sound runs through it and the bytes around it are whole. Without sound, a gap in a constant
    rate is a hole. At `bounds`, the bytes where clocks jump, sound may outlast the pictures.
    """
    base = traces.video.time_base or Fraction(1)
    times = np.asarray(traces.pts) + np.array(
        [shift(place, base) for place in traces.places], dtype=np.int64
    )
    order = np.argsort(times, kind="stable")
    times, places = times[order], np.asarray(traces.places)[order]
    gaps = np.diff(times)
    step, even = _step(gaps[gaps > 0], traces.video)
    if not step:
        return ()
    clocks = np.searchsorted(np.asarray(bounds), places, side="right")
    wide = np.flatnonzero((gaps > _WIDE * step) & (np.diff(clocks) == 0))
    apart = 1 + np.count_nonzero(np.diff(wide) > _REACH)  # one hole may leave pictures inside
    steady = even >= _STEADY and apart <= max(3, len(times) // 50)
    found = []
    for i in wide:
        before, after = int(times[i]), int(times[i + 1])
        lasting = traces.lasting.get(before - shift(int(places[i]), base), 0)
        low = places[max(0, i - _REACH) : i + 1].min()
        high = places[i + 1 : i + 2 + _REACH].max()
        scarred = any(low <= scar <= high for scar in traces.scars)
        sound = _sound(traces, shift, before * base, after * base)
        lost = scarred or sound == "pauses" or (sound == "unknown" and steady)
        if not lost or lasting >= 0.75 * (after - before):
            continue
        if steady:
            found.append(Hole(before, after, _missing(before, after, step, base)))
        elif scarred and after - before > 3 * step:
            found.append(Hole(before, after, ()))
    return tuple(found)


def _step(gaps: np.ndarray, video: VideoStream) -> tuple[float, float]:
    """The usual time between pictures, 0 if there are too few, and how many gaps share it."""
    if len(gaps) < 3:
        return 0.0, 0.0
    step = float(np.median(gaps))
    even = np.abs(gaps - step) <= min(max(0.03 * step, 2.0), step / 8)
    if even.any():
        step = float(gaps[even].mean())
    rate, base = video.guessed_rate, video.time_base
    told = float(1 / (rate * base)) if rate and base else 0.0
    return told if abs(told - step) < 0.01 * step else step, float(even.mean())


def _missing(before: int, after: int, step: float, base: Fraction) -> tuple[int, ...]:
    """The times at which a constant rate had pictures between two others."""
    count = round((after - before) / step)
    on_grid = abs((after - before) / step - count) <= 0.25
    if not on_grid or (after - before) * base > _LONGEST:
        return ()
    return tuple(before + round((after - before) * k / count) for k in range(1, count))


def _sound(traces: Traces, shift: Shift, before: Fraction, after: Fraction) -> str:
    """What the sound does between two times: "pauses", "runs" through, or "unknown"."""
    for place, end, start, base in traces.pauses:
        moved = shift(place, base)
        begin, resume = float((end + moved) * base), float((start + moved) * base)
        if begin < after + 1 and resume > before - 1 and resume - begin > 0.3 * (after - before):
            return "pauses"
    for index, ((first_place, first), *rest) in traces.heard.items():
        base = traces.bases[index]
        place, end = rest[0]
        if (first + shift(first_place, base)) * base <= before and (
            end + shift(place, base)
        ) * base >= after:
            return "runs"
    return "unknown"
