"""The loop over windows: read, upscale, blend, write, record."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from framelift.engine.clip import Clip
from framelift.engine.job import Job
from framelift.engine.journal import Journal
from framelift.engine.plan import Plan
from framelift.engine.survey import Survey
from framelift.engine.tiling import upscale_window
from framelift.errors import StoppedError
from framelift.images import to_rgb
from framelift.methods.base import Step, VSRPipeline
from framelift.ops.color_fix import color_fix
from framelift.ops.resize import resize
from framelift.ops.windows import CrossFade, Window
from framelift.types import OnProgress, Progress
from framelift.video.images import ImageWriter
from framelift.video.read import VideoReader
from framelift.video.write import Segment, SegmentWriter


class Stopwatch:
    """Wall seconds by part of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a part."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started


@dataclass(frozen=True)
class Run:
    """Everything that the loop needs; `process` computes what the journal does not hold yet."""

    reader: VideoReader
    job: Job
    facts: Survey
    pipeline: VSRPipeline
    plan: Plan
    journal: Journal
    watch: Stopwatch
    on_progress: OnProgress
    should_stop: Callable[[], bool]

    def process(self) -> None:
        """Compute, write and record the missing windows; raises StoppedError when asked to stop."""
        windows, journal = self.plan.windows, self.journal
        ready = len(journal.done)
        if ready == len(windows):
            return
        tile = journal.done[-1].tile if ready else self.plan.tile
        done = sum(len(d.segment.pts) for d in journal.done)
        if ready:
            note = f"continuing after {done} frames"
            self.on_progress(Progress("note", done, self.facts.frames, note))
        clip = Clip(self.reader, self.facts.first)
        fade = CrossFade(journal.tail() if ready else None)
        for index in range(ready, len(windows)):
            if self.should_stop():
                raise StoppedError(
                    f"Stopped after {done} of {self.facts.frames} frames.",
                    "Run the same command again to continue.",
                )
            window = windows[index]
            with self.watch.part("read"):
                lr = clip.read(window)
            with self.watch.part("pipeline"):
                sr, tile = self._upscale(lr, window, tile, done)
            with self.watch.part("blend"):
                keep = windows[index + 1].overlap if index + 1 < len(windows) else 0
                finished = fade.push(sr, window.overlap, keep)
            segment = self._write(index, finished, lr)
            with self.watch.part("journal"):
                journal.commit(segment, fade.tail, tile)
            done += len(finished)
            self.on_progress(Progress("upscale", done, self.facts.frames))
        clip.close()

    def _upscale(self, lr: Tensor, window: Window, tile: int, done: int) -> tuple[Tensor, int]:
        fresh = window.length - window.overlap

        def advance(share: float, step: Step) -> None:
            note = "" if step.residual is None else f"residual {step.residual:.3g}"
            frames = done + int(share * fresh)
            self.on_progress(Progress("upscale", frames, self.facts.frames, note))

        def warn(text: str) -> None:
            self.on_progress(Progress("warning", note=text))

        frame = self.facts.first + window.start
        return upscale_window(self.pipeline, lr, frame, tile, self.plan, advance, warn)

    def _write(self, index: int, finished: Tensor, lr: Tensor) -> Segment:
        """Colour-fix, resize, quantise and encode the finished frames of a window."""
        job = self.job
        first = self.facts.first + self.plan.windows[index].start
        writer = (ImageWriter if job.as_images else SegmentWriter)(
            self.journal.segment_path(index, job.as_images),
            width=job.width,
            height=job.height,
            info=job.info,
            encode=job.encode,
            threads=self.plan.threads,
        )
        try:
            for i, frame in enumerate(finished):
                with self.watch.part("colour"):
                    rgb = to_rgb(self._finish_frame(frame, lr[i]), deep=job.info.bit_depth > 8)
                with self.watch.part("encode"):
                    writer.write(rgb, self.facts.pts[first + i], self.facts.durations[first + i])
            with self.watch.part("encode"):
                return writer.close()
        except BaseException:
            writer.abort()
            raise

    def _finish_frame(self, frame: Tensor, lr: Tensor) -> Tensor:
        """The colour fix at the network's size, then the one resize to the size asked for."""
        if self.plan.color_fix != "none":
            reference = resize(lr[None], (frame.shape[-2], frame.shape[-1]))
            frame = color_fix(self.plan.color_fix, frame[None], reference)[0]
        return resize(frame, (self.job.height, self.job.width))
