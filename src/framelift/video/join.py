"""Finished segments as one stream of packets, without encoding again."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate

from av.container import InputContainer
from av.packet import Packet

from framelift.errors import FrameliftError
from framelift.video.open import open_input
from framelift.video.write import SEGMENT_TICK, Segment


def presentation_order(segments: Sequence[Segment]) -> tuple[list[list[int]], int]:
    """For every segment the frame number of each packet in file order, and the reorder depth.

    Raises FrameliftError if a segment does not hold the frames it should, does not start with a
    key frame, or was encoded with other headers than the first one.
    """
    orders: list[list[int]] = []
    header: bytes | None = None
    for index, segment in enumerate(segments):
        with open_input(segment.path) as container:
            extradata = container.streams.video[0].codec_context.extradata or b""
            packets = [(_number(p), p.is_keyframe) for p in _packets(container)]
        order = [number for number, _ in packets]
        keyed = bool(packets) and packets[0][1]
        header = extradata if index == 0 else header
        if sorted(order) != list(range(len(segment.pts))) or not keyed or extradata != header:
            raise FrameliftError(
                f"The finished segment {segment.path} is damaged or was encoded differently.",
                "Delete it and run the same command again.",
            )
        orders.append(order)
    delay = max(
        (place - number for order in orders for place, number in enumerate(order)), default=0
    )
    return orders, delay


def _packets(container: InputContainer) -> Iterator[Packet]:
    return (packet for packet in container.demux(container.streams.video[0]) if packet.size)


def _number(packet: Packet) -> int:
    assert packet.pts is not None
    return round(packet.pts * packet.time_base / SEGMENT_TICK)


def joined(
    segments: Sequence[Segment],
    orders: Sequence[Sequence[int]],
    delay: int,
    time_base: Fraction,
    shift: int = 0,
) -> Iterator[Packet]:
    """Yield the packets of all segments in file order with their exact times less `shift`.

    Decoding times are the presentation times in order, `delay` frames late: strictly increasing,
    and never after the presentation time, at constant and variable rates alike.
    """
    shown = [pts - shift for segment in segments for pts in segment.pts]
    lead = max(1, segments[0].durations[0])
    early = [shown[0] - lead * (delay - place) for place in range(delay)]
    starts = [0, *accumulate(len(segment.pts) for segment in segments)]
    for segment, order, start in zip(segments, orders, starts, strict=False):
        with open_input(segment.path) as container:
            for place, (number, packet) in enumerate(
                zip(order, _packets(container), strict=True), start=start
            ):
                packet.time_base = time_base
                packet.pts = shown[start + number]
                packet.dts = early[place] if place < delay else shown[place - delay]
                packet.duration = segment.durations[number]
                yield packet
