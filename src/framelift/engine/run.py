"""The way of a video's windows: read | upscale | blend and write, side by side.

The middle part is a map of a pure function over windows. While it computes one, the next is
decoded and the one before is blended, encoded and recorded, each by one thread: at most three
windows are held, and everything is done in the order of a serial run.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from torch import Tensor

from framelift.engine.job import Job
from framelift.engine.journal import Journal
from framelift.engine.plan import Plan
from framelift.engine.read import FrameBatch, WindowReader
from framelift.engine.tiling import upscale_window
from framelift.errors import StoppedError
from framelift.files import part_path, publish, remove
from framelift.images import to_rgb
from framelift.methods.base import Step, VSRPipeline
from framelift.ops.color_fix import color_fix
from framelift.ops.resize import resize
from framelift.ops.windows import CrossFade, Window
from framelift.types import OnProgress, Progress
from framelift.video import faults
from framelift.video.images import ImageWriter
from framelift.video.write import Segment, SegmentWriter


class Stopwatch:
    """Wall seconds by part of a run, which began at `started`; parts may run side by side."""

    def __init__(self, started: float | None = None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._started = time.perf_counter() if started is None else started

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a part."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def record(self) -> dict[str, float]:
        """Seconds by part, and in `total` since the beginning."""
        total = time.perf_counter() - self._started
        return {name: round(value, 3) for name, value in self.seconds.items()} | {
            "total": round(total, 3)
        }


def upscale_windows(
    reader: WindowReader,
    pipeline: VSRPipeline,
    plan: Plan,
    writer: "WindowWriter",
    *,
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
) -> None:
    """Compute, write and record the windows that `writer` does not hold yet.

    Raises StoppedError when asked to stop, behind the last whole window.
    """
    windows, total, watch = plan.windows, plan.frames, writer.watch
    done, tile = writer.frames_done, writer.tile or plan.tile
    missing = writer.missing

    def read(window: Window) -> FrameBatch:
        with watch.part("read"):
            return reader.read(window)

    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        ahead = reading.submit(read, windows[missing[0]]) if missing else None
        behind: Future[None] | None = None
        for index, following in zip_longest(missing, missing[1:]):
            if should_stop():
                if behind is not None:
                    behind.result()
                raise StoppedError(
                    f"Stopped after {done} of {total} frames.",
                    "Run the same command again to continue.",
                )
            assert ahead is not None
            batch = ahead.result()
            if following is not None:
                ahead = reading.submit(read, windows[following])
            report = _reporter(on_progress, done, windows[index], total)
            with watch.part("pipeline"):
                sr, tile = upscale_window(
                    pipeline, batch.frames, windows[index], plan, tile, report, _warner(on_progress)
                )
            if behind is not None:
                behind.result()
            behind = writing.submit(writer.write, index, batch, sr, tile)
            done += windows[index].length - plan.shared_after(index)
            on_progress(Progress("upscale", done, total))
        if behind is not None:
            behind.result()


def _reporter(
    on_progress: OnProgress, done: int, window: Window, total: int
) -> Callable[[float, Step], None]:
    fresh = window.length - window.overlap

    def report(share: float, step: Step) -> None:
        note = "" if step.residual is None else f"residual {step.residual:.3g}"
        on_progress(Progress("upscale", done + int(share * fresh), total, note))

    return report


def _warner(on_progress: OnProgress) -> Callable[[str], None]:
    return lambda text: on_progress(Progress("warning", note=text))


@dataclass
class WindowWriter:
    """Blends, colour-fixes, resizes, encodes and records windows.

    A window that shares frames with the one before needs that one's tail: held from the last
    `write`, or in the journal.
    """

    job: Job
    plan: Plan
    journal: Journal
    watch: Stopwatch

    def __post_init__(self) -> None:
        self._fade, self._last = CrossFade(), -1

    @property
    def missing(self) -> list[int]:
        """The windows that are not recorded."""
        return [n for n in range(len(self.plan.windows)) if n not in self.journal.done]

    @property
    def frames_done(self) -> int:
        """Number of frames in them."""
        return sum(len(done.segment.pts) for done in self.journal.done.values())

    @property
    def tile(self) -> int | None:
        """Side of the tiles that the last recorded window was computed with."""
        done = self.journal.done
        return done[max(done)].tile if done else None

    def write(self, index: int, batch: FrameBatch, sr: Tensor, tile: int) -> None:
        """Write the frames that window `index` finishes, and record it with its tile side.

        `batch` are the window's frames, `sr` `[T, 3, scale·h, scale·w]` what became of them.
        """
        with self.watch.part("blend"):
            keep, overlap = self.plan.shared_after(index), self.plan.windows[index].overlap
            if self._last != index - 1:
                self._fade = CrossFade(self.journal.tail(index - 1) if overlap else None)
            finished = self._fade.push(sr, overlap, keep)
        segment = self._encode(index, batch.first(len(finished)), finished)
        with self.watch.part("journal"):
            self.journal.commit(index, segment, self._fade.tail, tile)
        self._last = index

    def _encode(self, index: int, batch: FrameBatch, finished: Tensor) -> Segment:
        job, final = self.job, self.journal.segment_path(index, self.job.as_images)
        writer = (ImageWriter if job.as_images else SegmentWriter)(
            part_path(final),
            width=job.width,
            height=job.height,
            info=job.info,
            encode=job.encode,
            threads=self.plan.threads,
        )
        try:
            for n, frame in enumerate(finished):
                with self.watch.part("colour"):
                    rgb = to_rgb(self._finish(frame, batch.frames[n]), deep=job.info.bit_depth > 8)
                with self.watch.part("encode"):
                    captions = batch.captions[n] if batch.captions else None
                    writer.write(rgb, batch.pts[n], batch.durations[n], captions)
            with self.watch.part("encode"):
                return _named(writer.close(), final)
        except BaseException:
            writer.abort()
            raise

    def _finish(self, frame: Tensor, lr: Tensor) -> Tensor:
        """The colour fix at the network's size, then the one resize to the size asked for."""
        if self.plan.color_fix != "none":
            reference = resize(lr[None], (frame.shape[-2], frame.shape[-1]))
            frame = color_fix(self.plan.color_fix, frame[None], reference)[0]
        return resize(frame, (self.job.height, self.job.width))


def _named(part: Segment, final: Path) -> Segment:
    """Give a finished segment its name, in place of what a killed process may have left there."""
    with faults.writing(final):
        if final.is_dir():
            remove(final)
        publish(part.path, final)
    return replace(part, path=final)
