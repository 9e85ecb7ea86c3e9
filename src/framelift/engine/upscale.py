"""Reader → windows → tiles → pipeline → blend → colour fix → writer, streaming.

Memory holds one window; finished windows are segments on the disk (see `journal`), which are
joined without re-encoding at the end.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from framelift.device import choose_device, choose_dtype
from framelift.engine import budget
from framelift.engine.heap import keep_freed_memory
from framelift.engine.job import Job, plan_job
from framelift.engine.journal import Journal
from framelift.engine.plan import Plan, resolve_plan
from framelift.engine.run import Run, Stopwatch
from framelift.engine.settings import UpscaleSettings
from framelift.engine.survey import Survey, survey
from framelift.errors import Exit
from framelift.files import write_json
from framelift.methods.base import VSRPipeline
from framelift.methods.load import load_pipeline
from framelift.types import OnProgress, Progress
from framelift.video.assemble import finish
from framelift.video.faults import writing
from framelift.video.images import assemble_images
from framelift.video.read import VideoReader


@dataclass(frozen=True)
class Result:
    """A finished run; `record` is what was written beside the output."""

    output: Path
    record: dict[str, Any]
    warnings: list[str]
    exit_code: Exit


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
    load: Callable[..., VSRPipeline] = load_pipeline,
) -> Result:
    """Upscale a video, an image sequence or a part of one.

    `should_stop` is asked after every window; a stop raises StoppedError, and the same call later
    continues. `load` stands for `load_pipeline` where a caller keeps pipelines between clips.
    Raises the errors of `framelift.errors`; the output appears whole or not at all.
    """
    settings = settings or UpscaleSettings()
    keep_freed_memory()
    watch = Stopwatch()
    reader, job = open_job(Path(source), Path(output) if output else None, settings)
    with Journal(job.output) as journal:
        with watch.part("survey"):
            facts = _survey(reader, job, settings, on_progress)
        budget.check_disk(
            job.output.absolute().parent, facts.frames, job.height * job.width, job.encode
        )
        with watch.part("load"):
            pipeline, plan = _prepare(job, facts, settings, journal, load)
        journal.open(plan.identity, settings.restart)
        run = Run(reader, job, facts, pipeline, plan, journal, watch, on_progress, should_stop)
        with _threads(plan.threads):
            run.process()
        with watch.part("finish"):
            on_progress(Progress("finish", facts.frames, facts.frames))
            lost = _finish(job, facts, journal)
            for warning in lost:
                on_progress(Progress("warning", note=warning))
            warnings = [*job.warnings, *facts.report.warnings, *lost]
        record = _record(job, facts, plan, journal, warnings, watch)
        with writing(job.output):
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
    job: Job,
    facts: Survey,
    settings: UpscaleSettings,
    journal: Journal,
    load: Callable[..., VSRPipeline],
) -> tuple[VSRPipeline, Plan]:
    """Load the pipeline and resolve everything that settings leave open."""
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    loaded = load(
        settings.preset or settings.method,
        device=device,
        dtype=dtype,
        weights_dir=settings.weights_dir,
    )
    previous = None if settings.restart else journal.previous()
    return loaded, resolve_plan(job, facts, settings, loaded, previous)


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
