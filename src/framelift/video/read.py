"""Read a video frame by frame, in presentation order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import Type
from av.video.stream import VideoStream

from framelift.errors import InputError
from framelift.types import Deinterlace, VideoInfo
from framelift.video.color import ToRGB
from framelift.video.decode import Damage, Picture, decode, usual_step
from framelift.video.deinterlace import after, deinterlaced
from framelift.video.open import open_input
from framelift.video.probe import (
    ALPHA_DROPPED,
    claimed_end,
    has_alpha,
    is_transparent,
    probe,
    video_stream,
)
from framelift.video.sequence import find_images, read_images
from framelift.video.side_data import carried_by, read_side_data, tiny
from framelift.video.timeline import Timeline, scan

Captions = VideoFrame
"""A tiny picture that carries the closed captions of another one."""


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

    def captions(self) -> Captions | None:
        """A tiny picture that carries this one's closed captions, for SegmentWriter; or None.

        A picture that stands in for a lost one has none: its captions have been shown.
        """
        if self.repaired or all(
            kind is not Type.A53_CC for kind, _ in read_side_data(self._picture)[0]
        ):
            return None
        return tiny(self._picture)


@dataclass
class ReadReport:
    """What came out of a full pass.

    `repaired` and `corrupt` list frame indices: stand-ins, and pictures that the decoder says are
    damaged. `holes` are pieces that are missing from the file; all seconds are of the video.
    """

    frames: int = 0
    repaired: list[int] = field(default_factory=list)
    corrupt: list[int] = field(default_factory=list)
    holes: list[tuple[float, float]] = field(default_factory=list)
    bad_packets: int = 0
    truncated: bool = False
    expected_seconds: float | None = None
    got_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    side_data: set[str] = field(default_factory=set)
    """Names of what the pictures carry besides their pixels."""

    @property
    def damaged(self) -> bool:
        """Whether anything of the video is not as it was recorded."""
        return self.truncated or bool(self.repaired or self.corrupt or self.holes)


class VideoReader:
    """Iterates over a video or an image sequence; every iteration starts again at frame 0.

    Timestamps are strictly increasing in `info.time_base`: missing or disordered ones are rebuilt
    from the rate, and a clock that starts anywhere or jumps is set right (see timeline.py).
    `report` is complete once an iteration is exhausted. Raises InputError for interlaced video
    if `deinterlace` is "no", for HDR unless `hdr="keep"`, and during iteration if the picture
    changes its size. `rate` and `scale` as in `probe`.
    """

    def __init__(
        self,
        path: Path,
        *,
        deinterlace: Deinterlace = "no",
        hdr: Literal["refuse", "keep"] = "refuse",
        rate: Fraction | None = None,
        scale: float = 0,
    ) -> None:
        self.path = Path(path)
        self._stored = probe(self.path, rate, scale)
        self.info = after(self._stored, deinterlace)
        self.report = ReadReport()
        self._deinterlace: Deinterlace = deinterlace
        self._step = usual_step(self._stored)
        _refuse(self.info, deinterlace, hdr)

    def __iter__(self) -> Iterator[Frame]:
        self.report = report = ReadReport(warnings=list(self.info.warnings))
        images = find_images(self.path)
        if images is not None:
            yield from self._number(self._stills(images, report), report)
            return
        with open_input(self.path) as container:
            stream = video_stream(container, self.path)
            stream.thread_type = "SLICE"  # errors surface at their own packet
            claim, own = claimed_end(container, stream)
            damage = Damage()
            timeline = self._timeline
            decoded = decode(container, stream, self._stored, timeline, damage)
            timed = self._timed(self._watched(decoded, report), report)
            pictures = deinterlaced(timed, self._stored, self._deinterlace)
            yield from self._number(pictures, report, lambda: _told_end(stream, timeline, damage))
            self._conclude(damage, timeline, claim, own, report)

    @cached_property
    def _timeline(self) -> Timeline:
        with open_input(self.path) as container:
            return scan(container, video_stream(container, self.path))

    def _watched(self, pictures: Iterator[Picture], report: ReadReport) -> Iterator[Picture]:
        """Mention interlaced pictures in a progressive video, and transparency after the start."""
        combed, clear = 0, self.info.alpha
        report.side_data.update(self.info.side_data)
        for picture in pictures:
            combed += picture.frame.interlaced_frame
            report.side_data |= carried_by(picture.frame)
            if not clear and has_alpha(picture.frame.format) and is_transparent(picture.frame):
                clear = True
                report.warnings.append(ALPHA_DROPPED)
            yield picture
        if combed and self._deinterlace == "no":
            report.warnings.append(
                f"{combed} pictures are interlaced; pass --deinterlace if they look combed."
            )

    def _stills(self, images: list[Path], report: ReadReport) -> Iterator[Picture]:
        clear = self.info.alpha
        for time, frame, transparent in read_images(images, self.info.width, self.info.height):
            if transparent and not clear:
                clear = True
                report.warnings.append(ALPHA_DROPPED)
            yield Picture(time, frame)

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
            yield replace(picture, pts=pts)
        if rebuilt:
            report.warnings.append(
                f"{rebuilt} timestamps were missing or disordered; they were rebuilt from "
                f"{float(self.info.rate):g} frames a second."
            )

    def _number(
        self,
        pictures: Iterator[Picture],
        report: ReadReport,
        told: Callable[[], int | None] = lambda: None,
    ) -> Iterator[Frame]:
        """Give every picture its index and the time until the next one as duration.

        `told` says afterwards when the last one ends, if its own packet does not.
        """
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
            end = held.pts + self._lasts(held, told())
            yield self._frame(held, end, convert, report)
            report.got_seconds = float((end - first) * self.info.time_base)
            report.expected_seconds = report.expected_seconds or self.info.duration

    def _lasts(self, last: Picture, told: int | None) -> int:
        """How long the last picture is shown."""
        if self.info.is_images or self._deinterlace in ("bwdif", "ivtc"):
            return usual_step(self.info)
        if told is None:
            return last.frame.duration if (last.frame.duration or 0) > 0 else self._step
        assert last.pts is not None
        return told - last.pts if told > last.pts else self._step

    def _frame(self, picture: Picture, end: int, convert: ToRGB, report: ReadReport) -> Frame:
        assert picture.pts is not None
        index = report.frames
        report.frames += 1
        if picture.repaired:
            report.repaired.append(index)
        elif picture.corrupt:
            report.corrupt.append(index)
        return Frame(
            index, picture.pts, end - picture.pts, picture.repaired, picture.frame, convert
        )

    def _conclude(
        self,
        damage: Damage,
        timeline: Timeline,
        claim: float | None,
        own: bool,
        report: ReadReport,
    ) -> None:
        """Complete the report: damage, and whether the video ends before its `claim`."""
        report.bad_packets = damage.bad_packets
        base = self._stored.time_base
        report.holes = [(float(h.before * base), float(h.after * base)) for h in timeline.holes]
        start = float(self.info.start_pts * self.info.time_base)
        reached = start + report.got_seconds
        if claim is not None:
            report.expected_seconds = claim - start
            if not own:
                reached = max([reached, *damage.ends.values()])
            tolerance = max(0.1 if own else 0.5, 2.5 / float(self.info.rate))
            report.truncated = reached < claim - tolerance
        report.truncated = report.truncated or damage.broken_off
        report.warnings += _in_words(report, timeline)
        if report.truncated:
            told = f" of {report.expected_seconds:.2f}" if report.expected_seconds else ""
            report.warnings.append(
                f"The file is cut off: {report.got_seconds:.2f}{told} seconds could be read."
            )


def _in_words(report: ReadReport, timeline: Timeline) -> list[str]:
    """What a user should know about damage and about times that were set right."""
    found = []
    if report.holes:
        places = ", ".join(f"{a:.2f}-{b:.2f}" for a, b in report.holes[:5])
        more = ", ..." if len(report.holes) > 5 else ""
        found.append(f"The file has holes: pictures are missing at {places}{more} seconds.")
    if report.bad_packets:
        found.append(f"{report.bad_packets} packets were damaged.")
    if report.repaired:
        found.append(
            f"{len(report.repaired)} frames were missing or damaged; they were replaced by the "
            "last good one."
        )
    if report.corrupt:
        found.append(
            f"{len(report.corrupt)} frames are damaged (the first is frame {report.corrupt[0]}); "
            "the decoder patched them."
        )
    if timeline.seams:
        found.append(
            f"The clock of the file jumps (in {len(timeline.seams)} places), as where recordings "
            "are joined; picture and sound run on there."
        )
    return found


def _told_end(stream: VideoStream, timeline: Timeline, damage: Damage) -> int | None:
    """When the last picture ends, where the durations of packets do not tell.

    mp4 stores distances in decoding order: with reordered pictures, the duration of the one shown
    last is that of another.
    """
    form = stream.container.format.name
    if not form.startswith("mov") or not stream.codec_context.has_b_frames:
        return None
    if not stream.duration or damage.packets < stream.frames:
        return 0
    shift = timeline.shift(0, stream.time_base or Fraction(1))
    return (stream.start_time or 0) + stream.duration + shift


def _refuse(info: VideoInfo, deinterlace: Deinterlace, hdr: str) -> None:
    if info.dolby_vision is not None:
        raise InputError(
            f"{info.path} is Dolby Vision of profile {info.dolby_vision}: its picture has colours "
            "that only Dolby Vision can show.",
            "Convert it to HDR10 or ordinary video (BT.709) first.",
        )
    if info.interlaced and deinterlace == "no":
        raise InputError(
            f"{info.path} is interlaced.",
            "Pass --deinterlace to turn it into whole frames first, --deinterlace ivtc if it is "
            "telecined film, or --deinterlace keep if its pictures are whole already.",
        )
    if info.color.is_hdr and hdr == "refuse":
        kind = "PQ" if info.color.transfer == 16 else "HLG"
        raise InputError(
            f"{info.path} is HDR ({kind}); the models were trained on ordinary video.",
            "Pass --hdr keep to upscale the HDR values as they are.",
        )
