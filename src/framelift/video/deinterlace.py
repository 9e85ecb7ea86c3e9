"""Interlaced video and telecined film to whole pictures, by libav's filters."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from av import VideoFrame
from av.filter import Graph

from framelift.types import Deinterlace, VideoInfo
from framelift.video.decode import Picture

_BWDIF = ("bwdif", "mode=send_frame:deint=interlaced")
_CYCLE = 5  # pictures of telecined film, of which one is a repetition


def after(info: VideoInfo, how: Deinterlace) -> VideoInfo:
    """What the video is once it has gone through `deinterlaced`.

    Inverse telecine leaves four of five pictures. They lie between the old ones, so that a tick
    becomes a quarter of what it was.
    """
    if how != "ivtc":
        return info
    return replace(
        info,
        rate=info.rate * (_CYCLE - 1) / _CYCLE,
        time_base=info.time_base / 4,
        start_pts=info.start_pts * 4,
        frames=info.frames and round(info.frames * (_CYCLE - 1) / _CYCLE),
    )


def deinterlaced(
    pictures: Iterator[Picture], info: VideoInfo, how: Deinterlace
) -> Iterator[Picture]:
    """Whole pictures, in the time base of `after(info, how)`.

    bwdif interpolates the missing lines, one picture for each. ivtc puts the fields of film
    together again, interpolates what stays combed, and takes the repeated pictures out. `info`
    describes the video before; its pictures must have times.
    """
    if how == "bwdif":
        yield from _filtered(pictures, info.rate, [_BWDIF], 1)
    elif how == "ivtc":
        yield from _inverse_telecine(pictures, info)
    else:
        yield from pictures


def _inverse_telecine(pictures: Iterator[Picture], info: VideoInfo) -> Iterator[Picture]:
    first = next(pictures, None)
    if first is None:
        return
    flagged = first.frame.interlaced_frame
    order = "auto" if flagged else "tff"  # nearly all film is; without a flag libav takes bff
    chain = [
        ("fieldmatch", f"order={order}:combmatch=full"),
        _BWDIF,
        ("decimate", f"cycle={_CYCLE}"),
        ("setpts", "PTS-STARTPTS"),  # the first picture may be the one of five that goes
    ]

    def again() -> Iterator[Picture]:
        yield first
        yield from pictures

    yield from _filtered(again(), info.rate, chain, 4)


def _filtered(
    pictures: Iterator[Picture], rate: Fraction, chain: list[tuple[str, str]], ticks: int
) -> Iterator[Picture]:
    """Run pictures through filters; `ticks` of the result are one of what goes in.

    The filters count pictures. What comes out at a fraction of that count has the time at that
    fraction between its neighbours, whatever the rate was there.
    """
    graph: Graph | None = None
    clock = _Clock(rate, ticks)
    for picture in pictures:
        graph = graph or _graph(picture.frame, rate, chain)
        clock.enter(picture)
        graph.vpush(picture.frame)
        yield from clock.leave(_pulled(graph))
    if graph is not None:
        graph.vpush(None)
        yield from clock.leave(_pulled(graph))


def _graph(frame: VideoFrame, rate: Fraction, chain: list[tuple[str, str]]) -> Graph:
    graph = Graph()
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:"
        f"time_base={rate.denominator}/{rate.numerator}:"
        f"frame_rate={rate.numerator}/{rate.denominator}:"
        f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
    )
    filters = [graph.add(name, arguments) for name, arguments in chain]
    graph.link_nodes(source, *filters, graph.add("buffersink")).configure()
    return graph


class _Clock:
    """Times and damage of the pictures that are inside the filters."""

    def __init__(self, rate: Fraction, ticks: int) -> None:
        self._rate, self._ticks = rate, ticks
        self._places: list[int] = []
        self._inside: list[Picture] = []
        self._count = 0
        self._left = Fraction(-1)

    def enter(self, picture: Picture) -> None:
        """Number a picture."""
        self._places.append(self._count)
        self._inside.append(picture)
        picture.frame.pts, picture.frame.time_base = self._count, 1 / self._rate
        self._count += 1

    def leave(self, frames: Iterator[VideoFrame]) -> Iterator[Picture]:
        """Give pictures their times again, and the marks of what they were made of."""
        for frame in frames:
            assert frame.pts is not None
            assert frame.time_base is not None
            place = frame.pts * frame.time_base * self._rate
            inside = zip(self._places, self._inside, strict=True)
            made_of = [picture for n, picture in inside if self._left < n <= place]
            pts = self._time(place)
            self._left = place
            repaired = any(p.repaired for p in made_of)
            yield Picture(pts, frame, repaired, any(p.corrupt for p in made_of))
            while len(self._places) > 2 and self._places[1] <= place:
                self._places.pop(0)
                self._inside.pop(0)

    def _time(self, place: Fraction) -> int:
        index = min(max(bisect_right(self._places, place) - 1, 0), len(self._places) - 1)
        before = self._inside[index].pts
        assert before is not None
        rest = place - self._places[index]
        if not rest:
            return before * self._ticks
        other = index + 1 if index + 1 < len(self._places) else index - 1
        step = 0
        if other >= 0:
            neighbour = self._inside[other].pts
            assert neighbour is not None
            step = abs(neighbour - before)
        return round((before + rest * step) * self._ticks)


def _pulled(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return
