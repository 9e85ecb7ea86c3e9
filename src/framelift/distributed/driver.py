"""The driver: hands tasks to workers, hears what became of them, and alone decides what is lost.

It holds the locks of the journals that are open, and numbers and plans, never frames; it imports no
torch. A worker that dies is started again by Ray, here or on another machine, and its windows go to
whoever is free.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from framelift.distributed.connect import IN_FLIGHT, Layout
from framelift.distributed.messages import (
    Computed,
    Failure,
    Lost,
    Prepared,
    Probe,
    Published,
)
from framelift.distributed.schedule import Clip, Schedule, Task
from framelift.distributed.status import VideoStatus
from framelift.distributed.worker import MakePipeline, Worker
from framelift.engine.batch import Item
from framelift.engine.journal import Journal
from framelift.engine.settings import UpscaleSettings
from framelift.errors import Exit, FrameliftError, UsageError

OnTask = Callable[[Task, Mapping[str, float]], None]
"""Hears of a finished task and its seconds by part."""
TRIES = 3
GATHERING = 60.0  # seconds after the first worker's answer in which others are waited for
LOSSES = 30  # of a worker in a row, before it has answered: it is left out
PAUSE = 1.0  # seconds before a worker that was lost again is asked again
TICK = 0.5  # seconds between two looks at clocks and signals


@dataclass
class Video:
    """An input, and what became of it; `size` is its work, in any unit."""

    item: Item
    status: VideoStatus
    size: float = 0.0
    journal: Journal | None = None
    clip: Any = None
    record: Mapping[str, Any] | None = None
    exit_code: Exit = Exit.OK
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def give_up(self, problem: str, code: Exit) -> None:
        """It has failed."""
        self.status.state, self.status.problem, self.exit_code = "failed", problem, code
        self.status.ended = time.monotonic()

    @property
    def output(self) -> str:
        """Where it is written, as every process names it."""
        assert self.item.output is not None
        return str(self.item.output.absolute())


@dataclass
class _Slot:
    """A worker: its actor, whether it may be given tasks, and where it is."""

    actor: Any
    ready: bool = False
    refused: bool = False
    probe: Probe | None = None
    tasks: int = 0
    losses: int = 0
    """How often it was lost before it could introduce itself."""
    again_at: float = 0.0


class Driver:
    """One run over `videos`."""

    def __init__(
        self,
        videos: Sequence[Video],
        layout: Layout,
        settings: UpscaleSettings,
        method: Any,
        make_pipeline: MakePipeline | None = None,
    ) -> None:
        import ray

        self._ray = ray
        self._videos, self._layout = videos, layout
        self._schedule = Schedule([video.size for video in videos])
        share = layout.share
        actor = ray.remote(Worker).options(
            num_cpus=share.threads,
            num_gpus=1 if share.gpu else 0,
            max_restarts=-1,
            max_concurrency=IN_FLIGHT,
            scheduling_strategy="SPREAD",
        )
        self._slots = [
            _Slot(actor.remote(settings, method, share, make_pipeline))
            for _ in range(layout.workers)
        ]
        self._pending: dict[Any, tuple[int, Task | None]] = {}
        self._failures: dict[Task, list[str]] = defaultdict(list)
        self._reference: Probe | None = None
        self._on_change: Callable[[VideoStatus], None] = lambda status: None
        self._on_message: Callable[[str], None] = lambda text: None
        self._on_task: OnTask = lambda task, seconds: None
        self._begun = self.stopped = False

    def listen(
        self,
        on_change: Callable[[VideoStatus], None],
        on_message: Callable[[str], None],
        on_task: OnTask,
    ) -> None:
        """Say who hears of changes of videos, of messages, and of finished tasks."""
        self._on_change, self._on_message, self._on_task = on_change, on_message, on_task

    def run(self, folders: Mapping[str, str], should_stop: Callable[[], bool]) -> None:
        """Work until every video is done or has failed, or until asked to stop.

        `folders` as in `Worker.probe`. Raises UsageError if the workers are not alike, or none can
        work.
        """
        self._folders = folders
        try:
            self._gather(should_stop)
            self._begun = True
            while not self._schedule.finished:
                self.stopped = self.stopped or should_stop()
                if self.stopped and not any(task for _, task in self._pending.values()):
                    return
                if not self.stopped:
                    self._revive()
                    self._hand_out()
                self._hear(TICK)
        finally:
            for video in self._videos:
                self._let_go(video)

    def measure(self, folders: Mapping[str, str]) -> float:
        """Seconds of a worker per frame and LR pixel."""
        self._folders = folders
        self._gather(lambda: False)
        slot = next(slot for slot in self._slots if slot.ready)
        answer: Any = self._ray.get(slot.actor.measure.remote())
        if isinstance(answer, Failure):
            raise answer.as_error()
        return float(answer)

    def _gather(self, should_stop: Callable[[], bool]) -> None:
        """Start the workers; go on when all have answered, or some and the others take long."""
        for number in range(len(self._slots)):
            self._probe(number)
        first, told = None, time.monotonic()
        while not should_stop():
            self._revive()
            self._hear(TICK)
            answered = [slot for slot in self._slots if slot.ready or slot.refused]
            if answered and first is None:
                first = time.monotonic()
            if len(answered) == len(self._slots):
                break
            if first is not None and time.monotonic() - first > GATHERING:
                self._on_message(f"{len(answered)} of {len(self._slots)} workers are there.")
                break
            if first is None and time.monotonic() - told > GATHERING / 3:
                told = time.monotonic()
                free = self._ray.available_resources()
                cpu, gpu = free.get("CPU", 0), free.get("GPU", 0)
                self._on_message(f"waiting for a worker; {cpu:g} CPUs and {gpu:g} GPUs are free")
        probes = [slot.probe for slot in self._slots if slot.probe is not None]
        for other in probes[1:]:
            if difference := probes[0].difference(other):
                raise UsageError(
                    f"The workers are not alike: {difference}.",
                    "Give every machine the same framelift, weights and --dtype.",
                )

    def _probe(self, number: int) -> None:
        slot = self._slots[number]
        slot.ready, slot.tasks, slot.again_at = False, 0, 0.0
        self._pending[slot.actor.probe.remote(self._folders)] = number, None

    def _revive(self) -> None:
        """Ask the workers again that were lost, whenever Ray has started them."""
        for number, slot in enumerate(self._slots):
            if 0 < slot.again_at <= time.monotonic():
                self._probe(number)

    def _hand_out(self) -> None:
        """Give every worker what it can take: first those that have nothing."""
        for load in range(IN_FLIGHT):
            for number, slot in enumerate(self._slots):
                if slot.ready and slot.tasks == load:
                    task = self._schedule.next(number, idle=load == 0)
                    if task is not None:
                        self._give(number, task)

    def _give(self, number: int, task: Task) -> None:
        video, actor = self._videos[task.video], self._slots[number].actor
        if task.kind == "prepare":
            if not self._begin(video, task):
                return
            ref = actor.prepare.remote(str(video.item.source.absolute()), video.output)
        elif task.kind == "publish":
            total = time.monotonic() - (video.status.started or time.monotonic())
            ref = actor.publish.remote(video.output, video.clip, dict(video.seconds), total)
        else:
            ref = getattr(actor, task.kind).remote(video.output, video.clip, task.window)
        self._pending[ref] = number, task
        self._slots[number].tasks += 1

    def _begin(self, video: Video, task: Task) -> bool:
        """Lock the output of a video; False if that cannot be."""
        if video.journal is None:
            assert video.item.output is not None
            journal = Journal(video.item.output.absolute())
            try:
                journal.__enter__()
            except FrameliftError as error:
                self._fail(task, str(error), error.exit_code)
                return False
            video.journal = journal
            video.status.state, video.status.started = "running", time.monotonic()
            self._on_change(video.status)
        return True

    def _hear(self, seconds: float) -> None:
        """Take the answers that are there, waiting for the first one so long."""
        if not self._pending:
            time.sleep(seconds)
            return
        refs = list(self._pending)
        there, _ = self._ray.wait(refs, num_returns=1, timeout=seconds)
        if there:
            there, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        from ray.exceptions import RayError

        for ref in there:
            if ref not in self._pending:
                continue  # its worker has been found lost meanwhile
            number, task = self._pending.pop(ref)
            try:
                answer = self._ray.get(ref)
            except RayError as error:
                self._lost(number, task, error)
                continue
            if task is None:
                self._met(number, answer)
            else:
                self._slots[number].tasks -= 1
                self._took(number, task, answer)

    def _met(self, number: int, answer: Probe | Failure) -> None:
        """A worker has introduced itself."""
        slot = self._slots[number]
        if isinstance(answer, Failure):
            self._refuse(number, str(answer), answer)
            return
        slot.probe, slot.losses = answer, 0
        difference = self._reference and self._reference.difference(answer)
        if difference and self._begun:
            self._refuse(number, f"It is not like the others: {difference}.", None)
            return
        self._reference = self._reference or answer
        slot.ready = True

    def _refuse(self, number: int, why: str, failure: Failure | None) -> None:
        slot = self._slots[number]
        slot.refused, slot.ready, slot.again_at = True, False, 0.0
        self._on_message(f"warning: a worker is left out. {why}")
        self._ray.kill(slot.actor)
        if all(slot.refused for slot in self._slots):
            if failure is not None:
                raise failure.as_error()
            raise UsageError(f"No worker can take part. {why}", "See Ray's logs of that machine.")

    def _lost(self, number: int, task: Task | None, error: Exception) -> None:
        """A worker is gone: Ray starts it again, and what it had goes to others."""
        slot = self._slots[number]
        if slot.refused:
            return
        host = slot.probe.host if slot.probe else "a machine"
        node = slot.probe.node if slot.probe else ""
        if slot.ready:
            self._on_message(f"a worker on {host} is lost; its windows go to others")
        slot.losses += 1
        orphans = [t for r, (n, t) in self._pending.items() if n == number and t is not None]
        self._pending = {r: nt for r, nt in self._pending.items() if nt[0] != number}
        self._schedule.drop(number)
        for orphan in [*orphans, *([task] if task is not None else [])]:
            self._try_again(orphan, node, f"its worker on {host} died.", Exit.BUG)
        slot.ready, slot.tasks = False, 0
        slot.again_at = time.monotonic() + (PAUSE if slot.losses > 1 else 0)
        from ray.exceptions import ActorDiedError

        if slot.losses > LOSSES or (task is None and isinstance(error, ActorDiedError)):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            self._refuse(number, f"It dies before it can work: {lines[-1][:300]}", None)

    def _took(self, number: int, task: Task, answer: Any) -> None:
        """What a task has come to."""
        video = self._videos[task.video]
        if video.status.state != "running":
            return
        for text in getattr(answer, "warnings", ()):
            self._on_message(f"{video.item.source}: warning: {text}")
        seconds = getattr(answer, "seconds", {})
        for part, value in seconds.items():
            video.seconds[part] += value
        self._on_task(task, seconds)
        if isinstance(answer, Failure):
            probe = self._slots[number].probe
            if answer.final:
                self._fail(task, str(answer), answer.exit_code)
            else:
                node = probe.node if probe else ""
                self._try_again(task, node, str(answer), answer.exit_code)
        elif isinstance(answer, Prepared):
            self._plan(number, video, task, answer)
        elif isinstance(answer, Published):
            video.record, video.exit_code = answer.record, answer.exit_code
            video.status.state, video.status.ended = "done", time.monotonic()
            video.status.done = video.status.frames = int(answer.record["frames"])
            self._close(task.video)
        elif isinstance(answer, Lost):
            self._schedule.redo(task.video, answer.windows)
        elif isinstance(answer, Computed):
            if answer.held:
                self._schedule.held(task, answer.has_tail)
            else:
                self._schedule.recorded(task, answer.has_tail)
            self._progress(task.video)

    def _plan(self, number: int, video: Video, task: Task, answer: Prepared) -> None:
        video.clip = self._ray.put(answer.clip)
        video.status.frames = answer.frames
        clip = Clip(
            answer.fresh,
            answer.overlaps,
            answer.splittable,
            done=set(answer.done),
            tails=set(answer.tails),
        )
        video.status.before = clip.frames_done
        self._schedule.prepared(task.video, clip, number)
        if clip.frames_done:
            self._on_message(f"{video.item.source}: continuing after {clip.frames_done} frames")
        self._progress(task.video)

    def _progress(self, number: int) -> None:
        clip, status = self._schedule.clips.get(number), self._videos[number].status
        if clip is not None:
            status.done = clip.frames_done
            self._on_change(status)

    def _try_again(self, task: Task, node: str, why: str, code: Exit) -> None:
        """Count a failure; those on machines that are gone since are not the task's."""
        if self._videos[task.video].status.state == "failed":
            return
        self._failures[task].append(node)
        alive = {n["NodeID"] for n in self._ray.nodes() if n["Alive"]}
        own = sum(place in alive for place in self._failures[task])
        if own < TRIES:
            self._schedule.again(task)
            return
        clip = self._schedule.clips.get(task.video)
        what = "It" if clip is None or task.window < 0 else f"Window {task.window}"
        self._fail(task, f"{what} has failed {own} times: {why}", code)

    def _fail(self, task: Task, problem: str, code: Exit) -> None:
        self._videos[task.video].give_up(problem, code)
        self._close(task.video)

    def _close(self, number: int) -> None:
        video = self._videos[number]
        self._schedule.close(number)
        self._let_go(video)
        self._on_change(video.status)

    def _let_go(self, video: Video) -> None:
        video.clip = None
        if video.journal is not None:
            video.journal.__exit__()
            video.journal = None
