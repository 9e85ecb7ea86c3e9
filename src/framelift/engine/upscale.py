"""Reader → windows → tiles → pipeline → blend → colour fix → writer, streaming.

Memory holds one window; finished windows are segments on the disk (see `journal`), which are
joined without re-encoding at the end.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framelift.engine import budget
from framelift.engine.clip import Clip, pad_to_multiple, to_rgb
from framelift.engine.job import Job, plan_job
from framelift.engine.journal import Journal
from framelift.engine.plan import Plan, resolve_plan
from framelift.engine.settings import UpscaleSettings
from framelift.engine.survey import Survey, survey
from framelift.errors import Exit, NoRoomError, StoppedError
from framelift.files import write_json
from framelift.methods.base import Step, VSRPipeline
from framelift.methods.load import load_pipeline
from framelift.ops.color_fix import color_fix
from framelift.ops.noise import PositionNoise
from framelift.ops.resize import resize
from framelift.ops.tiles import Tile, blend_tiles, plan_tiles
from framelift.ops.windows import CrossFade, Window
from framelift.types import OnProgress, Progress
from framelift.video.assemble import finish
from framelift.video.images import ImageWriter, assemble_images
from framelift.video.read import VideoReader
from framelift.video.write import Segment, SegmentWriter


@dataclass(frozen=True)
class Result:
    """A finished run; `record` is what was written beside the output."""

    output: Path
    record: dict[str, Any]
    warnings: list[str]
    exit_code: Exit


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


def open_job(
    source: Path, output: Path | None, settings: UpscaleSettings
) -> tuple[VideoReader, Job]:
    """Probe the input and decide what will be written; refuses before any work."""
    rate = Fraction(settings.rate).limit_denominator(1001) if settings.rate else None
    reader = VideoReader(source, deinterlace=settings.deinterlace, hdr=settings.hdr, rate=rate)
    return reader, plan_job(source, output, reader.info, settings)


def upscale(
    source: str | Path,
    output: str | Path | None = None,
    settings: UpscaleSettings | None = None,
    *,
    on_progress: OnProgress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Upscale a video, an image sequence or a part of one.

    `should_stop` is asked after every window; a stop raises StoppedError, and the same call later
    continues. Raises the errors of `framelift.errors`; the output appears whole or not at all.
    """
    settings = settings or UpscaleSettings()
    watch = Stopwatch()
    reader, job = open_job(Path(source), Path(output) if output else None, settings)
    with Journal(job.output) as journal:
        with watch.part("survey"):
            facts = _survey(reader, job, settings, on_progress)
        budget.check_disk(
            job.output.absolute().parent, facts.frames, job.height * job.width, job.encode
        )
        with watch.part("load"):
            pipeline, plan = _prepare(job, facts, settings, journal)
        journal.open(plan.identity, settings.restart)
        with _threads(plan.threads):
            _run(reader, job, facts, pipeline, plan, journal, watch, on_progress, should_stop)
        with watch.part("finish"):
            on_progress(Progress("finish", facts.frames, facts.frames))
            lost = _finish(job, facts, journal)
            for warning in lost:
                on_progress(Progress("warning", note=warning))
            warnings = [*job.warnings, *facts.report.warnings, *lost]
        record = _record(job, facts, plan, journal, warnings, watch)
        write_json(job.output.with_name(job.output.name + ".json"), record)
        journal.discard()
    repaired = facts.report.truncated or facts.report.repaired
    return Result(job.output, record, warnings, Exit.REPAIRED if repaired else Exit.OK)


def _survey(
    reader: VideoReader, job: Job, settings: UpscaleSettings, on_progress: OnProgress
) -> Survey:
    def report(index: int) -> None:
        on_progress(Progress("survey", index + 1, reader.info.frames or 0))

    facts = survey(reader, settings, report)
    for warning in [*job.warnings, *facts.report.warnings]:
        on_progress(Progress("warning", note=warning))
    return facts


def _prepare(
    job: Job, facts: Survey, settings: UpscaleSettings, journal: Journal
) -> tuple[VSRPipeline, Plan]:
    """Load the pipeline and resolve everything that settings leave open."""
    device = budget.choose_device(settings.device)
    dtype = budget.choose_dtype(settings.dtype, device)
    loaded = load_pipeline(settings.preset or settings.method, device=device, dtype=dtype)
    previous = None if settings.restart else journal.previous()
    return loaded, resolve_plan(job, facts, settings, loaded, previous)


def _run(
    reader: VideoReader,
    job: Job,
    facts: Survey,
    pipeline: VSRPipeline,
    plan: Plan,
    journal: Journal,
    watch: Stopwatch,
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
) -> None:
    """Compute and write every window that the journal does not hold yet."""
    ready = len(journal.done)
    if ready == len(plan.windows):
        return
    clip = Clip(reader, facts.first)
    fade = CrossFade(journal.tail() if ready else None)
    tile = journal.done[-1].tile if ready else plan.tile
    done = sum(len(d.segment.pts) for d in journal.done)
    if ready:
        on_progress(Progress("note", done, facts.frames, f"continuing after {done} frames"))
    for index in range(ready, len(plan.windows)):
        if should_stop():
            raise StoppedError(
                f"Stopped after {done} of {facts.frames} frames.",
                "Run the same command again to continue.",
            )
        window = plan.windows[index]
        keep = plan.windows[index + 1].overlap if index + 1 < len(plan.windows) else 0
        with watch.part("read"):
            lr = clip.read(window)
        fresh = window.length - window.overlap

        def advance(share: float, base: int = done, fresh: int = fresh) -> None:
            on_progress(Progress("upscale", base + int(share * fresh), facts.frames))

        with watch.part("pipeline"):
            sr, tile = _upscale_window(
                pipeline, lr, window, facts.first, tile, plan, advance, on_progress
            )
        with watch.part("blend"):
            finished = fade.push(sr, window.overlap, keep)
        first = window.start
        segment = _write(job, facts, plan, journal, index, first, finished, lr, watch)
        with watch.part("journal"):
            journal.commit(segment, fade.tail, tile)
        done += len(finished)
        on_progress(Progress("upscale", done, facts.frames))
    clip.close()


def _upscale_window(
    pipeline: VSRPipeline,
    lr: Tensor,
    window: Window,
    first: int,
    tile: int,
    plan: Plan,
    advance: Callable[[float], None],
    on_progress: OnProgress,
) -> tuple[Tensor, int]:
    """One window through the network, tile by tile; halves the tile when memory runs out."""
    padded = pad_to_multiple(lr, pipeline.size_multiple)
    while True:
        overlap = min(plan.tile_overlap, tile // 2)
        height, width = padded.shape[-2:]
        tiles = plan_tiles(height, width, tile, overlap, pipeline.size_multiple)
        finished = 0

        def one(part: Tensor, at: Tile, count: int = len(tiles)) -> Tensor:
            nonlocal finished
            noise = PositionNoise(plan.seed).at(
                first + window.start, at.y, at.x, at.height, at.width
            )

            def on_step(step: Step) -> None:
                advance((finished + step.done) / count)

            result = pipeline(part, settings=plan.method_settings, noise=noise, on_step=on_step)
            finished += 1
            return result.cpu()

        try:
            sr = blend_tiles(one, padded, tiles, pipeline.scale)
        except (RuntimeError, MemoryError) as error:
            if not budget.is_out_of_memory(error):
                raise
            tile = _smaller(max(max(at.height, at.width) for at in tiles), pipeline.size_multiple)
            on_progress(Progress("warning", note=f"Memory ran out; trying tiles of {tile} pixels."))
            continue
        height, width = (side * pipeline.scale for side in lr.shape[-2:])
        return sr[..., :height, :width], tile


def _smaller(used: int, multiple: int) -> int:
    half = used // 2 // multiple * multiple
    if half < 2 * multiple:
        raise NoRoomError(
            f"Memory runs out even with tiles of {used} pixels.",
            "Close other programs, use a smaller --window, or a smaller preset.",
        )
    return half


def _write(
    job: Job,
    facts: Survey,
    plan: Plan,
    journal: Journal,
    index: int,
    first: int,
    finished: Tensor,
    lr: Tensor,
    watch: Stopwatch,
) -> Segment:
    """Colour-fix, resize, quantise and encode finished frames; `first` is their first index."""
    kind = ImageWriter if job.as_images else SegmentWriter
    writer = kind(
        journal.segment_path(index, job.as_images),
        width=job.width,
        height=job.height,
        info=job.info,
        encode=job.encode,
        threads=plan.threads,
    )
    try:
        for i, frame in enumerate(finished):
            with watch.part("colour"):
                if plan.color_fix != "none":
                    reference = resize(lr[i : i + 1], (frame.shape[-2], frame.shape[-1]))
                    frame = color_fix(plan.color_fix, frame[None], reference)[0]
                frame = resize(frame, (job.height, job.width))
                rgb = to_rgb(frame, deep=job.info.bit_depth > 8)
            with watch.part("encode"):
                at = facts.first + first + i
                writer.write(rgb, facts.pts[at], facts.durations[at])
        with watch.part("encode"):
            return writer.close()
    except BaseException:
        writer.abort()
        raise


def _finish(job: Job, facts: Survey, journal: Journal) -> list[str]:
    segments = [d.segment for d in journal.done]
    if job.as_images:
        return assemble_images(segments, job.output)
    return finish(
        segments,
        job.output,
        source=job.source,
        info=job.info,
        encode=job.encode,
        span=facts.span,
    )


def _record(
    job: Job, facts: Survey, plan: Plan, journal: Journal, warnings: list[str], watch: Stopwatch
) -> dict[str, Any]:
    return {
        "input": str(job.source),
        "output": str(job.output),
        "frames": facts.frames,
        "repaired": facts.report.repaired,
        "bad_packets": facts.report.bad_packets,
        "truncated": facts.report.truncated,
        "cuts": list(facts.cuts),
        "tiles": sorted({d.tile for d in journal.done}, reverse=True),
        "warnings": warnings,
        "seconds": {name: round(value, 3) for name, value in watch.seconds.items()},
        "settings": plan.identity,
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
