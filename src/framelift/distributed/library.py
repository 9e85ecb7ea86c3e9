"""A library of videos through a Ray cluster; whatever happens to one, the others go on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from framelift.distributed.connect import connected
from framelift.distributed.driver import Driver, OnTask, Video
from framelift.distributed.settings import ClusterSettings
from framelift.distributed.status import VideoStatus
from framelift.distributed.worker import MakePipeline
from framelift.engine.batch import Item, collect_inputs, plan_batch
from framelift.engine.job import choose_method
from framelift.engine.settings import UpscaleSettings
from framelift.errors import FrameliftError, StoppedError, UsageError
from framelift.video.containers import VIDEO_OUTPUTS
from framelift.video.probe import probe
from framelift.weights.presets import list_presets

MARK = ".framelift-cluster-"  # begins the name of the file that all workers must see


@dataclass(frozen=True)
class Outcome:
    """What became of an input: a record, or an error with its exit code."""

    source: Path
    output: Path | None
    record: dict[str, Any] | None
    error: str | None
    exit_code: int


@dataclass(frozen=True)
class Estimate:
    """What a run would do: workers, and for each video its frames, pixels and seconds of a worker;
    `seconds` until all are done."""

    workers: int
    threads: int
    videos: list[dict[str, Any]]
    seconds: float


def upscale(
    sources: Sequence[str | Path],
    output: str | Path | None = None,
    settings: UpscaleSettings | None = None,
    cluster: ClusterSettings | None = None,
    *,
    method: Any = None,
    make_pipeline: MakePipeline | None = None,
    on_change: Callable[[VideoStatus], None] = lambda status: None,
    on_message: Callable[[str], None] = lambda text: None,
    on_task: OnTask = lambda task, seconds: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Upscale videos and folders of videos; `output` is a folder, or they become neighbours.

    Frames, times and bits are those of `framelift.upscale` on each, where tiles, precision and
    threads are the same. `make_pipeline(settings, method)`, called in every worker, replaces the
    loading of the pipeline. `on_change` hears of each change of a video, `on_task` of each finished
    task and its seconds by part. A stop raises StoppedError, and the same call later continues,
    here or on one machine alone.
    """
    settings, cluster = settings or UpscaleSettings(), cluster or ClusterSettings("auto")
    items = plan(sources, output, settings, method)
    settings = _absolute(settings)
    videos = [_video(item, settings) for item in items if not item.done]
    work = [video for video in videos if video.status.problem == ""]
    for video in videos:
        on_change(video.status)
    finished: dict[Path, Outcome] = {v.item.source: _failed(v) for v in videos if v not in work}
    if work:
        with connected(cluster, settings) as layout, _mark(work) as folders:
            driver = Driver(work, layout, settings, method, make_pipeline)
            driver.listen(on_change, on_message, on_task)
            driver.run(folders, should_stop)
        for video in work:
            record = dict(video.record) if video.record is not None else None
            finished[video.item.source] = Outcome(
                video.item.source, video.item.output, record,
                video.status.problem or None, int(video.exit_code),
            )  # fmt: skip
        if driver.stopped:
            done = sum(video.status.state == "done" for video in work)
            raise StoppedError(
                f"Stopped after {done} of {len(work)} videos.",
                "Run the same command again to continue.",
            )
    return [finished.get(i.source) or Outcome(i.source, i.output, None, None, 0) for i in items]


def estimate(
    sources: Sequence[str | Path],
    output: str | Path | None = None,
    settings: UpscaleSettings | None = None,
    cluster: ClusterSettings | None = None,
    *,
    method: Any = None,
    make_pipeline: MakePipeline | None = None,
) -> Estimate:
    """What a run would do and how long it would take: workers are started, and one of them times
    its networks on a small picture; nothing is written."""
    settings, cluster = settings or UpscaleSettings(), cluster or ClusterSettings("auto")
    items = plan(sources, output, settings, method, make=False)
    settings = _absolute(settings)
    videos = [_video(item, settings) for item in items if not item.done]
    work = [video for video in videos if video.status.problem == ""]
    with connected(cluster, settings) as layout:
        driver = Driver(work, layout, settings, method, make_pipeline)
        per_pixel = driver.measure({str(v.item.source.absolute().parent): "" for v in work})
    free = [0.0] * layout.workers
    for video in sorted(work, key=lambda video: -video.size):  # windows of one fill all workers
        for n in range(len(free)):
            free[n] += video.size * per_pixel / len(free)
    shown = [
        video.status.as_json() | {"worker_seconds": round(video.size * per_pixel, 1)}
        for video in videos
    ]
    return Estimate(layout.workers, layout.share.threads, shown, max(free, default=0.0))


def plan(
    sources: Sequence[str | Path],
    output: str | Path | None,
    settings: UpscaleSettings,
    method: Any,
    make: bool = True,
) -> list[Item]:
    """The inputs, and what each becomes."""
    _, _, scale = choose_method(settings, method)
    folder = Path(output) if output else None
    if folder is not None and folder.suffix.lower() in VIDEO_OUTPUTS and not folder.is_dir():
        raise UsageError(
            f"With a cluster, --output is a folder, and {folder} is a video.", "Name a folder."
        )
    if not make and folder is not None and not folder.exists():
        return [
            replace(item, output=folder / item.output.name if item.output else None)
            for item in plan_batch(
                collect_inputs([Path(s) for s in sources]), None, settings, scale
            )
        ]
    return plan_batch(collect_inputs([Path(s) for s in sources]), folder, settings, scale)


def _video(item: Item, settings: UpscaleSettings) -> Video:
    """What the driver keeps of an item; its size is frames times pixels, as headers tell."""
    status = VideoStatus(item.source, item.output)
    video = Video(item, status)
    problem = item.problem
    if problem is None:
        try:
            info = probe(item.source, scale=settings.scale or 0)
            status.frames = info.frames
            frames = info.frames or (info.duration or 1) * float(info.rate)
            video.size = float(frames) * info.width * info.height
        except FrameliftError as error:
            problem = error
    if problem is not None:
        video.give_up(str(problem), problem.exit_code)
    return video


def _failed(video: Video) -> Outcome:
    return Outcome(
        video.item.source, video.item.output, None, video.status.problem, int(video.exit_code)
    )


def _absolute(settings: UpscaleSettings) -> UpscaleSettings:
    """Settings whose paths mean the same in every process."""
    preset, mirrors = settings.preset, settings.weights_dir
    known = {preset.name for preset in list_presets()}
    if preset and Path(preset).exists() and preset.replace("_", "-") not in known:
        preset = str(Path(preset).absolute())
    return replace(settings, preset=preset, weights_dir=mirrors and Path(mirrors).absolute())


@contextmanager
def _mark(videos: Sequence[Video]) -> Iterator[dict[str, str]]:
    """Folders that every worker must see, each with the name of a file that is there during a run,
    or "" where nothing is written."""
    name = f"{MARK}{uuid4().hex[:12]}"
    folders = {str(video.item.source.absolute().parent): "" for video in videos}
    folders |= {str(Path(video.output).parent): name for video in videos}
    written = [Path(folder, name) for folder, name in folders.items() if name]
    try:
        for path in written:
            path.touch()
        yield folders
    finally:
        for path in written:
            path.unlink(missing_ok=True)
