"""Read a video frame by frame, in presentation order."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from av import VideoFrame
from av.filter import Graph
from av.video.stream import VideoStream

from framelift.errors import InputError
from framelift.types import VideoInfo
from framelift.video.color import ToRGB
from framelift.video.decode import Damage, Picture, decode, usual_step
from framelift.video.open import open_input
from framelift.video.probe import claimed_end, probe, video_stream
from framelift.video.sequence import find_images, read_images


@dataclass(frozen=True)
class Frame:
    """One picture: `pts` and `duration` in the video's time base, `repaired` if it stands in."""

    index: int
    pts: int
    duration: int
    repaired: bool
    _picture: VideoFrame
    _convert: ToRGB

    def rgb(self) -> np.ndarray:
        """RGB, [H, W, 3]: uint8, or uint16 over 0..65535 for sources deeper than 8 bits."""
        return self._convert(self._picture)

    def thumbnail(self, width: int) -> np.ndarray:
        """A cheap small version, `width` pixels wide: BGR, uint8, [h, w, 3]."""
        return self._convert.thumbnail(self._picture, width)


@dataclass
class ReadReport:
    """What came out of a full pass: `repaired` lists frame indices, seconds are of the video."""

    frames: int = 0
    repaired: list[int] = field(default_factory=list)
    bad_packets: int = 0
    truncated: bool = False
    expected_seconds: float | None = None
    got_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


class VideoReader:
    """Iterates over a video or an image sequence; every iteration starts again at frame 0.

    Timestamps are strictly increasing in `info.time_base`: missing or disordered ones are rebuilt
    from the rate. `report` is complete once an iteration is exhausted. Raises InputError for
    interlaced video unless `deinterlace`, for HDR unless `hdr="keep"`, and during iteration if the
    picture changes its size.
    """

    def __init__(
        self,
        path: Path,
        *,
        deinterlace: bool = False,
        hdr: Literal["refuse", "keep"] = "refuse",
        rate: Fraction | None = None,
    ) -> None:
        self.path = Path(path)
        self.info = probe(self.path, rate)
        self.report = ReadReport()
        self._deinterlace = deinterlace
        self._step = usual_step(self.info)
        _refuse(self.info, deinterlace, hdr)

    def __iter__(self) -> Iterator[Frame]:
        self.report = report = ReadReport(warnings=list(self.info.warnings))
        images = find_images(self.path)
        if images is not None:
            frames = read_images(images, self.info.width, self.info.height)
            pictures = (Picture(index, frame) for index, frame in enumerate(frames))
            yield from self._number(pictures, report)
            return
        with open_input(self.path) as container:
            stream = video_stream(container, self.path)
            stream.thread_type = "SLICE"  # errors surface at their own packet
            claim, own = claimed_end(container, stream)
            damage = Damage()
            decoded = decode(container, stream, self.info, damage)
            pictures = self._timed(self._watched(decoded, report), report)
            if self._deinterlace:
                pictures = _deinterlaced(pictures, stream, self.info.time_base)
            yield from self._number(pictures, report)
            self._conclude(damage, claim, own, report)

    def _watched(self, pictures: Iterator[Picture], report: ReadReport) -> Iterator[Picture]:
        """Mention interlaced pictures in a progressive video."""
        combed = 0
        for picture in pictures:
            combed += picture.frame.interlaced_frame
            yield picture
        if combed and not self._deinterlace:
            report.warnings.append(
                f"{combed} pictures are interlaced; pass --deinterlace if they look combed."
            )

    def _timed(self, pictures: Iterator[Picture], report: ReadReport) -> Iterator[Picture]:
        """Make timestamps strictly increasing."""
        last: int | None = None
        rebuilt = 0
        for picture in pictures:
            pts = picture.pts
            if pts is None or (last is not None and pts <= last):
                pts = last + self._step if last is not None else 0
                rebuilt += 1
            last = pts
            yield Picture(pts, picture.frame, picture.repaired)
        if rebuilt:
            report.warnings.append(
                f"{rebuilt} timestamps were missing or disordered; they were rebuilt from "
                f"{float(self.info.rate):g} frames a second."
            )

    def _number(self, pictures: Iterator[Picture], report: ReadReport) -> Iterator[Frame]:
        """Give every picture its index and the time until the next one as duration."""
        convert = ToRGB(self.info)
        held: Picture | None = None
        first = 0
        for picture in pictures:
            assert picture.pts is not None
            if held is None:
                first = picture.pts
            else:
                yield self._frame(held, picture.pts, convert, report)
            held = picture
        if held is not None:
            assert held.pts is not None
            own = 0 if self.info.is_images or self._deinterlace else held.frame.duration
            end = held.pts + (own if own and own > 0 else self._step)
            yield self._frame(held, end, convert, report)
            report.got_seconds = float((end - first) * self.info.time_base)
            report.expected_seconds = report.expected_seconds or self.info.duration

    def _frame(self, picture: Picture, end: int, convert: ToRGB, report: ReadReport) -> Frame:
        assert picture.pts is not None
        index = report.frames
        report.frames += 1
        if picture.repaired:
            report.repaired.append(index)
        return Frame(
            index, picture.pts, end - picture.pts, picture.repaired, picture.frame, convert
        )

    def _conclude(self, damage: Damage, claim: float | None, own: bool, report: ReadReport) -> None:
        """Complete the report: damage, and whether the video ends before its `claim`."""
        report.bad_packets = damage.bad_packets
        start = float(self.info.start_pts * self.info.time_base)
        reached = start + report.got_seconds
        if claim is not None:
            report.expected_seconds = claim - start
            if not own:
                reached = max([reached, *damage.ends.values()])
            tolerance = max(0.1 if own else 0.5, 2.5 / float(self.info.rate))
            report.truncated = reached < claim - tolerance
        report.truncated = report.truncated or damage.broken_off
        if report.repaired or report.bad_packets:
            report.warnings.append(
                f"{report.bad_packets} packets were damaged; {len(report.repaired)} frames were "
                "replaced by the last good one."
            )
        if report.truncated:
            told = f" of {report.expected_seconds:.2f}" if report.expected_seconds else ""
            report.warnings.append(
                f"The file is cut off: {report.got_seconds:.2f}{told} seconds could be read."
            )


def _refuse(info: VideoInfo, deinterlace: bool, hdr: str) -> None:
    if info.interlaced and not deinterlace:
        raise InputError(
            f"{info.path} is interlaced.", "Pass --deinterlace to turn it into whole frames first."
        )
    if info.color.is_hdr and hdr == "refuse":
        kind = "PQ" if info.color.transfer == 16 else "HLG"
        raise InputError(
            f"{info.path} is HDR ({kind}); the models were trained on ordinary video.",
            "Pass --hdr keep to upscale the HDR values as they are.",
        )


def _deinterlaced(
    pictures: Iterator[Picture], stream: VideoStream, time_base: Fraction
) -> Iterator[Picture]:
    """Interpolate the missing lines of interlaced pictures (bwdif, one frame for each frame)."""
    graph = Graph()
    source = graph.add_buffer(template=stream, time_base=time_base)
    bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
    repaired: set[int | None] = set()
    for picture in pictures:
        picture.frame.pts, picture.frame.time_base = picture.pts, time_base
        if picture.repaired:
            repaired.add(picture.pts)
        graph.vpush(picture.frame)
        yield from _pulled(graph, time_base, repaired)
    graph.vpush(None)
    yield from _pulled(graph, time_base, repaired)


def _pulled(graph: Graph, time_base: Fraction, repaired: set[int | None]) -> Iterator[Picture]:
    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        assert frame.pts is not None
        assert frame.time_base is not None
        pts = round(frame.pts * frame.time_base / time_base)
        yield Picture(pts, frame, pts in repaired)
