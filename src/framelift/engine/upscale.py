"""Path → probe → survey → plan → read | upscale | write → join → verify → name.

Memory holds a few windows; finished windows are segments on the disk (see `journal`), which are
joined without re-encoding at the end. torch is imported once nothing is left to be refused.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framelift.engine.job import Job, choose_method, plan_job, record_path
from framelift.engine.journal import Journal, is_published
from framelift.engine.settings import UpscaleSettings
from framelift.errors import Exit, FrameliftError, InputError, UsageError
from framelift.files import remove_parts, write_json
from framelift.types import OnProgress, Progress
from framelift.video.assemble import finish
from framelift.video.faults import writing
from framelift.video.images import assemble_images
from framelift.video.picture import assemble_picture, check_picture
from framelift.video.read import VideoReader
from framelift.video.sequence import find_images
from framelift.video.side_data import losses

if TYPE_CHECKING:
    from framelift.engine.plan import Plan
    from framelift.engine.run import Stopwatch
    from framelift.engine.survey import Survey
    from framelift.methods.base import VSRPipeline


@dataclass(frozen=True)
class Result:
    """A finished run; `record` is what was written beside the output."""

    output: Path
    record: dict[str, Any]
    warnings: list[str]
    exit_code: Exit


def upscale(
    source: str | Path,
    output: str | Path | None = None,
    settings: UpscaleSettings | None = None,
    *,
    method: Any = None,
    pipeline: "VSRPipeline | None" = None,
    on_progress: OnProgress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Upscale a video, an image sequence or a part of one.

    `method` are settings of the method (None: its defaults), for example `StableVSRSettings`.
    `pipeline` replaces the one that `settings` name; it stays loaded where a caller has many clips.
    `should_stop` is asked after every window; a stop raises StoppedError, and the same call later
    continues. Raises the errors of `framelift.errors`; the output appears whole or not at all.
    """
    settings = settings or UpscaleSettings()
    source, output = Path(source), Path(output) if output else None
    reader, job, method = open_job(source, output, settings, method, pipeline)
    with Journal(job.output) as journal:
        if is_published(job.output) and not settings.restart:
            return conclude(job, journal, journal.published())
        remove_parts(job.output)
        remove_parts(record_path(job.output))
        return _run(job, reader, settings, method, pipeline, journal, on_progress, should_stop)


def open_job(
    source: Path,
    output: Path | None,
    settings: UpscaleSettings,
    method: Any = None,
    pipeline: "VSRPipeline | None" = None,
) -> tuple[VideoReader, Job, Any]:
    """Probe the input and decide what will be written and how; refuses before any work.

    Returns the reader, the job and the settings of the method. Imports no torch.
    """
    if pipeline is None:
        _, method, scale = choose_method(settings, method)
    else:
        method = pipeline.settings_class() if method is None else method
        if not isinstance(method, pipeline.settings_class):
            raise UsageError(
                f"{type(pipeline).__name__} takes {pipeline.settings_class.__name__}, "
                f"not {type(method).__name__}.",
                "Pass the settings of its own method.",
            )
        scale = pipeline.scale_of(method)
    rate = Fraction(settings.rate).limit_denominator(1001) if settings.rate else None
    reader = VideoReader(
        source,
        deinterlace=settings.deinterlace,
        hdr=settings.hdr,
        rate=rate,
        scale=0 if settings.height else settings.scale or scale,
    )
    return reader, plan_job(source, output, reader.info, settings, scale), method


def _run(
    job: Job,
    reader: VideoReader,
    settings: UpscaleSettings,
    method: Any,
    pipeline: "VSRPipeline | None",
    journal: Journal,
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
) -> Result:
    from framelift.engine.read import WindowReader
    from framelift.engine.run import Stopwatch, WindowWriter, upscale_windows

    def warn(text: str) -> None:
        on_progress(Progress("warning", note=text))

    watch = Stopwatch()
    previous = previous_settings(job, settings, journal)
    with watch.part("load"):
        pipeline = pipeline or load_for(settings, method)
        for text in pipeline.warnings(method):
            warn(text)
    clip = prepare(job, reader, settings, method, pipeline, journal, watch, previous, on_progress)
    facts, plan = clip.facts, clip.plan
    writer = WindowWriter(job, plan, journal, watch)
    if journal.done:
        note = f"continuing after {writer.frames_done} frames"
        on_progress(Progress("note", writer.frames_done, facts.frames, note))
    with use_threads(plan.threads):
        frames = WindowReader(reader, facts)
        upscale_windows(
            frames, pipeline, plan, writer, on_progress=on_progress, should_stop=should_stop
        )
    on_progress(Progress("finish", facts.frames, facts.frames))
    return publish(clip, settings, journal, watch, warn)


@dataclass(frozen=True)
class Clip:
    """A video that is ready to be computed: with it and the pipeline, any process can do a window.

    `source_state` tells whether its files are still what was surveyed.
    """

    job: Job
    reader: VideoReader
    facts: "Survey"
    plan: "Plan"
    source_state: list[tuple[str, int, int]]


def previous_settings(
    job: Job, settings: UpscaleSettings, journal: Journal
) -> dict[str, Any] | None:
    """What an interrupted run has left to be followed, if anything."""
    if settings.restart:
        return None
    return journal.previous() or (None if job.as_images else journal.relative(job.source))


def prepare(
    job: Job,
    reader: VideoReader,
    settings: UpscaleSettings,
    method: Any,
    pipeline: "VSRPipeline",
    journal: Journal,
    watch: "Stopwatch",
    previous: Mapping[str, Any] | None,
    on_progress: OnProgress = lambda event: None,
    memory_share: float = 1.0,
) -> Clip:
    """Survey and plan a video, and open its journal; `previous` as in `resolve_plan`.

    `memory_share` is the part of the free memory that may be used.
    """
    from framelift.engine.plan import check_disk, resolve_plan

    def warn(text: str) -> None:
        on_progress(Progress("warning", note=text))

    before = _state_of(job.source)
    with watch.part("survey"):
        watcher = pipeline.watch(method)
        facts = _survey(reader, job, settings, watcher, on_progress)
    if job.as_picture:
        size = job.height, job.width
        check_picture(job.output, job.source, job.info, facts.frames, size)
    check_disk(job.output.absolute().parent, facts.frames, job.height * job.width, job.encode)
    with watch.part("plan"):
        plan = resolve_plan(job, facts, settings, pipeline, method, watcher, previous, memory_share)
    journal.open(plan.identity, settings.restart, warn)
    return Clip(job, reader, facts, plan, before)


def load_for(settings: UpscaleSettings | None, method: Any = None) -> "VSRPipeline":
    """The pipeline that `upscale` loads for these settings."""
    settings = settings or UpscaleSettings()
    from framelift.device import choose_device, choose_dtype
    from framelift.methods.load import load_pipeline

    device = choose_device(settings.device)
    return load_pipeline(
        choose_method(settings, method)[0],
        device=device,
        dtype=choose_dtype(settings.dtype, device),
        weights_dir=settings.weights_dir,
    )


def _survey(
    reader: VideoReader,
    job: Job,
    settings: UpscaleSettings,
    watcher: Any,
    on_progress: OnProgress,
) -> "Survey":
    from framelift.engine.survey import survey

    def report(index: int) -> None:
        on_progress(Progress("survey", index + 1, reader.info.frames or 0))

    facts = survey(reader, settings, report, watcher)
    lost = losses(facts.report.side_data, job.info, None if job.as_images else job.encode.codec)
    facts.report.warnings += [text for text in lost if text not in job.warnings]
    for warning in [*job.warnings, *facts.report.warnings]:
        on_progress(Progress("warning", note=warning))
    return facts


def _state_of(source: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of all files of an input."""
    files = find_images(source) or [source]
    return [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def publish(
    clip: Clip,
    settings: UpscaleSettings,
    journal: Journal,
    watch: "Stopwatch",
    warn: Callable[[str], None] = lambda text: None,
) -> Result:
    """Join the segments; the output gets its name when it is whole and its record is kept."""
    job, facts, plan = clip.job, clip.facts, clip.plan
    if _state_of(job.source) != clip.source_state:
        raise InputError(
            f"{job.source} has changed while it was being upscaled.",
            "Leave it as it is until the run has finished, then start again with --restart.",
        )
    record: dict[str, Any] = {}

    def whole(part: Path, lost: list[str]) -> None:
        lost = [text for text in lost if text not in job.warnings]
        for text in lost:
            warn(text)
        warnings = [*job.warnings, *facts.report.warnings, *lost]
        record.update(_record(job, facts, plan, journal, warnings, watch))
        journal.publishing(part, record)

    segments = [journal.done[n].segment for n in sorted(journal.done)]
    with watch.part("finish"):
        if job.as_picture:
            assemble_picture(segments, job.output, job.source, whole, settings.overwrite)
        elif job.as_images:
            assemble_images(segments, job.output, whole, settings.overwrite)
        else:
            with _kept_windows(job.output):
                finish(
                    segments,
                    job.output,
                    source=job.source,
                    info=job.info,
                    encode=job.encode,
                    span=facts.span,
                    whole=whole,
                    overwrite=settings.overwrite,
                )
    return conclude(job, journal, record)


@contextmanager
def _kept_windows(output: Path) -> Iterator[None]:
    """Tell how a container that cannot be finished is left for another one."""
    try:
        yield
    except FrameliftError as error:
        if error.exit_code is not Exit.BUG:
            raise
        other = output.with_suffix(".mp4" if output.suffix == ".mkv" else ".mkv").name
        raise FrameliftError(
            error.problem,
            "The finished windows are kept. Please report this; the same command with "
            f"-o {other} writes them to another container.",
        ) from error


def conclude(job: Job, journal: Journal, record: dict[str, Any]) -> Result:
    """Write the record of a published output and let go of the journal."""
    with writing(job.output):
        write_json(record_path(job.output), record)
    journal.discard()
    repaired = any(record.get(key) for key in ("truncated", "repaired", "corrupt", "holes"))
    code = Exit.REPAIRED if repaired else Exit.OK
    return Result(job.output, record, record["warnings"], code)


def _record(
    job: Job,
    facts: "Survey",
    plan: "Plan",
    journal: Journal,
    warnings: list[str],
    watch: "Stopwatch",
) -> dict[str, Any]:
    return {
        "input": str(job.source),
        "output": str(job.output),
        "frames": facts.frames,
        "repaired": facts.report.repaired,
        "corrupt": facts.report.corrupt,
        "holes": facts.report.holes,
        "bad_packets": facts.report.bad_packets,
        "truncated": facts.report.truncated,
        "cuts": list(facts.cuts),
        "tiles": sorted({d.tile for d in journal.done.values()}, reverse=True),
        "warnings": warnings,
        "seconds": watch.record(),
        "settings": plan.identity,
    }


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
