"""The first pass over a video: exact frame count and times, scene cuts, damage.

It costs a decode, which is little beside the networks, and lets everything after it be planned:
windows never span a cut, progress is exact, and `--strict` refuses before any work.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scenedetect import ContentDetector, FrameTimecode
from scenedetect.detector import FlashFilter

from framelift.engine.settings import UpscaleSettings, parse_frames, parse_time
from framelift.errors import InputError, UsageError
from framelift.images import to_tensor
from framelift.types import VideoInfo
from framelift.video.read import ReadReport, VideoReader

if TYPE_CHECKING:
    from framelift.methods.base import Watcher

THUMBNAIL = 128  # pixels wide; enough for cuts, cheap to compare


@dataclass(frozen=True)
class Survey:
    """`first` and `stop` bound the selected frames; times are in the video's time base.

    `cuts` are indices of selected frames, counted from `first`, at which a new shot begins.
    """

    info: VideoInfo
    pts: tuple[int, ...]
    durations: tuple[int, ...]
    first: int
    stop: int
    cuts: tuple[int, ...]
    report: ReadReport

    @property
    def frames(self) -> int:
        """Number of selected frames."""
        return self.stop - self.first

    @property
    def span(self) -> tuple[int, int] | None:
        """Selected range of timestamps, None for the whole video."""
        if self.frames == len(self.pts):
            return None
        return self.pts[self.first], self.pts[self.stop - 1] + self.durations[self.stop - 1]


def survey(
    reader: VideoReader,
    settings: UpscaleSettings,
    on_frame: Callable[[int], None] = lambda index: None,
    watcher: "Watcher | None" = None,
) -> Survey:
    """Decode once; `watcher` sees every frame. InputError for what `--strict` refuses."""
    detector = ContentDetector(min_scene_len=2, filter_mode=FlashFilter.Mode.SUPPRESS)
    pts, durations, cuts = [], [], set()
    for frame in reader:
        pts.append(frame.pts)
        durations.append(frame.duration)
        time = FrameTimecode(frame.index, fps=reader.info.rate)
        cuts.update(c.frame_num for c in detector.process_frame(time, frame.thumbnail(THUMBNAIL)))
        if watcher is not None:
            watcher(to_tensor(frame.rgb()))
        on_frame(frame.index)
    if not pts:
        raise InputError(
            f"No frame of {reader.path} can be decoded.", "Check that it plays elsewhere."
        )
    report = reader.report
    if settings.strict and report.damaged:
        count = len(report.repaired) + len(report.corrupt)
        what = f"has {count} damaged frames" if count else "has holes"
        what = "is truncated" if report.truncated else what
        raise InputError(
            f"{reader.path} {what}, and --strict is given.",
            "Get an intact copy, or run without --strict to repair what can be repaired.",
        )
    first, stop = _selection(pts, reader.info, settings)
    inside = sorted(c - first for c in cuts if first < c < stop)
    return Survey(reader.info, tuple(pts), tuple(durations), first, stop, tuple(inside), report)


def _selection(pts: list[int], info: VideoInfo, settings: UpscaleSettings) -> tuple[int, int]:
    first, stop = parse_frames(settings.frames)
    stop = len(pts) if stop is None else min(stop, len(pts))
    start_time, end_time = parse_time(settings.start), parse_time(settings.end)
    times = [(p - pts[0]) * info.time_base for p in pts]
    if start_time is not None:
        first = sum(t < start_time for t in times)
    if end_time is not None:
        stop = sum(t < end_time for t in times)
    if first >= stop:
        seconds = float(times[-1])
        raise UsageError(
            "The selected range holds no frame.",
            f"The video has {len(pts)} frames, the last one at {seconds:.3f} s.",
        )
    return first, stop
