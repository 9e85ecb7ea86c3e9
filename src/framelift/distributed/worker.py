"""One device's worker: it keeps its pipeline and the readers of its videos.

What goes in and out are paths, numbers and plans, never frames. Frames are read from the shared
folder, segments and tails written to it, the record of a window last. Two tasks may be inside at
once: one is read or written while the other is computed.
"""

import functools
import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from framelift.distributed.clip import OpenClip
from framelift.distributed.messages import (
    Computed,
    Failure,
    Lost,
    Prepared,
    Probe,
    Published,
    Share,
)
from framelift.engine.settings import UpscaleSettings
from framelift.errors import Exit, FrameliftError, InputError, NoRoomError, UsageError

if TYPE_CHECKING:
    from framelift.methods.base import VSRPipeline

MakePipeline = Callable[[UpscaleSettings, Any], "VSRPipeline"]
OPEN_CLIPS = 3  # whose readers a worker keeps: two tasks inside, one that they came from
PROBE_SIDE = 64  # LR pixels of the frames with which speed is measured


def answered(task: Callable[..., Any]) -> Callable[..., Any]:
    """Give errors back as values, so that a caller tells them from a lost worker."""

    @functools.wraps(task)
    def run(*args: Any, **named: Any) -> Any:
        try:
            return task(*args, **named)
        except FrameliftError as error:
            final = isinstance(error, UsageError | InputError)
            return Failure(error.problem, error.remedy, error.exit_code, final)
        except MemoryError:
            text = f"Memory ran out on {socket.gethostname()}."
            return Failure(text, "Use fewer workers or --tile.", NoRoomError.exit_code, False)
        except Exception as error:
            if os.environ.get("FRAMELIFT_DEBUG"):
                traceback.print_exc()
            summary = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return Failure(f"this is a bug: {summary}", "Please report it.", Exit.BUG, False)

    return run


class Worker:
    """The actor; `make_pipeline` replaces the loading of the pipeline that the settings name."""

    def __init__(
        self,
        settings: UpscaleSettings,
        method: Any,
        share: Share,
        make_pipeline: MakePipeline | None = None,
    ) -> None:
        if settings.device == "auto" and not share.gpu:
            settings = replace(settings, device="cpu")
        self._settings, self._method, self._share = settings, method, share
        self._make = make_pipeline
        self._pipeline: VSRPipeline | None = None
        self._loading, self._reading = Lock(), Lock()
        self._computing, self._writing = Lock(), Lock()
        self._clips: dict[str, OpenClip] = {}
        self._meter = _Meter()

    @answered
    def probe(self, folders: Mapping[str, str]) -> Probe:
        """Load the pipeline and tell what it is.

        `folders` are those of the run, each with the name of a file that must be seen in it, or "".
        """
        import ray

        from framelift import __version__
        from framelift.engine.plan import fingerprint
        from framelift.heap import keep_freed_memory

        host = socket.gethostname()
        for folder, name in folders.items():
            if not (Path(folder) / name).exists():
                raise UsageError(
                    f"{host} does not see {folder} as the machine that you started from does.",
                    "Share it at the same path on every machine of the cluster.",
                )
        keep_freed_memory()
        pipeline = self._load()
        versions = {n: version(n) for n in ("torch", "diffusers", "av")}
        return Probe(
            ray.get_runtime_context().get_node_id(),
            host,
            fingerprint(pipeline),
            pipeline.device.type,
            str(pipeline.compute_dtype).removeprefix("torch."),
            {"framelift": __version__, **versions},
        )

    @answered
    def measure(self) -> float:
        """Seconds that a frame takes per LR pixel, what windows share included, from the second of
        two small calls."""
        from framelift.engine.upscale import use_threads
        from framelift.ops.noise import PositionNoise

        pipeline = self._load()
        limits = pipeline.limits_for(self._method)
        side = -(-(limits.tile or PROBE_SIDE) // limits.size_multiple) * limits.size_multiple
        window = self._settings.window or limits.window
        overlap = limits.overlap if self._settings.overlap is None else self._settings.overlap
        frames, twice = min(window, 8), window / max(1, window - overlap)
        noise = PositionNoise(0, block=limits.noise_block)
        lr = noise("start", frames, (3, side, side)).sigmoid().to(pipeline.device)
        seconds = 0.0
        with self._computing, use_threads(self._share.threads):
            for _ in range(2):
                started = time.perf_counter()
                pipeline(lr, settings=self._method, noise=noise.at(0, 0, 0, side, side)).cpu()
                seconds = time.perf_counter() - started
        return seconds * twice / frames / side**2

    @answered
    def prepare(self, source: str, output: str) -> Prepared | Published:
        """Survey and plan a video, or find that it had been published."""
        from framelift.engine.job import record_path
        from framelift.engine.journal import Journal, is_published
        from framelift.engine.run import Stopwatch
        from framelift.engine.upscale import conclude, open_job, prepare, previous_settings
        from framelift.files import remove_parts

        pipeline, settings, warnings = self._load(), self._settings, []
        reader, job, method = open_job(Path(source), Path(output), settings, self._method, pipeline)
        journal = Journal(job.output)
        if is_published(job.output) and not settings.restart:
            done = conclude(job, journal, journal.published())
            return Published(done.record, (), done.exit_code)
        remove_parts(job.output)
        remove_parts(record_path(job.output))
        watch = Stopwatch()
        found = previous_settings(job, settings, journal)
        previous = {"threads": self._share.threads, **(found or {})}

        def hear(event: Any) -> None:
            if event.stage == "warning":
                warnings.append(event.note)

        warnings += pipeline.warnings(method)
        clip = prepare(
            job, reader, settings, method, pipeline, journal, watch, previous, hear,
            self._share.memory,
        )  # fmt: skip
        for held in journal.folder.glob("*.held.safetensors"):
            held.unlink()
        plan, windows = clip.plan, clip.plan.windows
        shared = [plan.shared_after(n) for n in range(len(windows))]
        return Prepared(
            pickle.dumps(clip),
            clip.facts.frames,
            tuple(w.length - s for w, s in zip(windows, shared, strict=True)),
            tuple(w.overlap for w in windows),
            all(w.overlap + s <= w.length for w, s in zip(windows, shared, strict=True)),
            frozenset(journal.done),
            frozenset(n for n, done in journal.done.items() if done.has_tail),
            tuple(warnings),
            dict(watch.seconds),
        )

    @answered
    def window(self, output: str, clip: bytes, index: int) -> Computed:
        """Compute a window, and finish it if what it shares with the one before is there."""
        from framelift.engine.tiling import upscale_window
        from framelift.engine.upscale import use_threads

        opened = self._open(output, clip)
        pipeline, plan, journal = self._load(), opened.clip.plan, opened.journal()
        if journal.find(index) is not None:
            return Computed(False, plan.shared_after(index) > 0)
        warnings: list[str] = []
        watch = opened.watch()
        with self._reading, watch.part("read"):
            batch = opened.read(index)
        with self._computing, watch.part("pipeline"), use_threads(plan.threads):
            sr, tile = upscale_window(
                pipeline, batch.frames, plan.windows[index], plan, opened.tile,
                warn=warnings.append,
            )  # fmt: skip
            opened.tile = tile
        with self._writing, use_threads(plan.threads):
            window, keep = plan.windows[index], plan.shared_after(index)
            early = keep > 0 and window.overlap + keep <= window.length
            if window.overlap and journal.tail(index - 1) is None:
                with watch.part("journal"):
                    opened.hold(index, batch, sr, tile)
                    if early:
                        journal.keep_tail(index, sr[-keep:].float())
                return Computed(True, early, dict(watch.seconds), tuple(warnings))
            opened.write(journal, watch, index, batch, sr, tile)
        self._meter.count(window.length - keep, watch.seconds["pipeline"])
        return Computed(False, keep > 0, dict(watch.seconds), tuple(warnings))

    @answered
    def settle(self, output: str, clip: bytes, index: int) -> Computed:
        """Finish a held window; the tail of the one before it is there."""
        from framelift.engine.upscale import use_threads

        opened = self._open(output, clip)
        plan, journal = opened.clip.plan, opened.journal()
        watch = opened.watch()
        if journal.find(index) is None:
            with self._reading:
                opened.wait_for_tail(index)
                batch, sr, tile = opened.release(index)
            with self._writing, use_threads(plan.threads):
                opened.write(journal, watch, index, batch, sr, tile)
        opened.held_path(index).unlink(missing_ok=True)
        return Computed(False, plan.shared_after(index) > 0, dict(watch.seconds))

    @answered
    def publish(
        self, output: str, clip: bytes, seconds: Mapping[str, float], total: float
    ) -> Published | Lost:
        """Join a video whose windows are all recorded; `seconds` by part are for its record."""
        from framelift.engine.job import read_record
        from framelift.engine.journal import is_published
        from framelift.engine.upscale import conclude, publish

        opened = self._open(output, clip)
        job, plan, journal = opened.clip.job, opened.clip.plan, opened.journal()
        if is_published(job.output):
            done = conclude(job, journal, journal.published())
            return Published(done.record, (), done.exit_code)
        record = read_record(job.output) if not journal.folder.exists() else None
        if record is not None and record["settings"] == plan.identity and job.output.exists():
            return Published(record, (), conclude(job, journal, record).exit_code)
        journal.open(plan.identity, restart=False)
        missing = tuple(n for n in range(len(plan.windows)) if n not in journal.done)
        if missing:
            return Lost(missing)
        watch, warnings = opened.watch(total), []
        watch.seconds.update(seconds)
        settings = replace(self._settings, restart=False)
        result = publish(opened.clip, settings, journal, watch, warnings.append)
        self._clips.pop(output, None)
        return Published(result.record, tuple(warnings), result.exit_code)

    def _load(self) -> "VSRPipeline":
        from framelift.engine.upscale import load_for

        with self._loading:
            if self._pipeline is None:
                self._pipeline = (self._make or load_for)(self._settings, self._method)
            return self._pipeline

    def _open(self, output: str, clip: bytes) -> OpenClip:
        with self._loading:
            if output not in self._clips:
                while len(self._clips) >= OPEN_CLIPS:
                    self._clips.pop(next(iter(self._clips)))
                self._clips[output] = OpenClip(pickle.loads(clip))  # noqa: S301 - a worker made it
            return self._clips[output]


class _Meter:
    """Counts what a worker has done, for Ray's exporter."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter

        self._frames = Counter("framelift_frames", "Frames of recorded windows.")
        self._windows = Counter("framelift_windows", "Recorded windows.")
        self._seconds = Counter("framelift_pipeline_seconds", "Seconds in the networks.")

    def count(self, frames: int, seconds: float) -> None:
        """Add a recorded window."""
        self._windows.inc(1)
        self._frames.inc(frames)
        self._seconds.inc(max(seconds, 1e-9))
