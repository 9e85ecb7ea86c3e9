"""Which task comes next: windows of all videos in one queue, longest video first. No torch, no Ray.

A worker goes through a stretch of consecutive windows, so that it decodes its video once and blends
where it stands. A free worker opens the longest video that waits; when none does, it takes the back
half of the longest stretch that another worker still has before it. Windows that come back from a
lost worker go first.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["prepare", "window", "settle", "publish"]
Order = Literal["longest", "listed"]


@dataclass(frozen=True)
class Task:
    """One call of a worker. `settle`: finish a window that waited for the tail before it."""

    kind: Kind
    video: int
    window: int = -1


@dataclass
class _Stretch:
    video: int
    start: int
    stop: int


@dataclass
class Clip:
    """What the queue knows of a video: of each window its new frames, and what it shares.

    `done` are recorded windows, `held` those computed without the tail before them, `tails` those
    whose tail is on the disk; `settling` are held ones that are being finished.
    """

    fresh: Sequence[int]
    overlaps: Sequence[int]
    splittable: bool
    done: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)
    tails: set[int] = field(default_factory=set)
    settling: set[int] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether every window is recorded."""
        return len(self.done) == len(self.fresh)

    @property
    def frames_done(self) -> int:
        """Frames of the recorded windows."""
        return sum(self.fresh[window] for window in self.done)


class Schedule:
    """Hands out tasks and hears what became of them.

    `sizes` are the work of each video, in any unit; `order` "listed" takes the videos as they come.
    """

    def __init__(self, sizes: Sequence[float], order: Order = "longest") -> None:
        self.order = order
        self.clips: dict[int, Clip] = {}
        self._rank = sorted(range(len(sizes)), key=lambda v: -sizes[v] if order != "listed" else v)
        self._waiting = deque(self._rank)
        self._sizes = sizes
        self._urgent: deque[Task] = deque()
        self._loose: list[_Stretch] = []
        self._owned: dict[int, _Stretch] = {}
        self._open = set(self._rank)
        self._publishing: set[int] = set()

    @property
    def finished(self) -> bool:
        """Whether every video is done or given up."""
        return not self._open

    def next(self, worker: int, idle: bool = True) -> Task | None:
        """The task for a worker; one that is not `idle` gets none that another one could begin."""
        while self._urgent:
            task = self._urgent.popleft()
            if task.video in self._open:
                return task
        stretch = self._owned.get(worker) or self._stretch_for(worker)
        if stretch is None and self._waiting:
            return Task("prepare", self._waiting.popleft())
        if stretch is None and idle:
            stretch = self._split(worker)
        if stretch is None:
            return None
        stretch.start += 1
        if stretch.start == stretch.stop:
            del self._owned[worker]
        return Task("window", stretch.video, stretch.start - 1)

    def prepared(self, video: int, clip: Clip, worker: int | None = None) -> None:
        """A video is planned; a worker that has nothing else goes on with what it has seen."""
        self.clips[video] = clip
        for start, stop in _runs([n for n in range(len(clip.fresh)) if n not in clip.done]):
            self._loose.append(_Stretch(video, start, stop))
        if worker is not None and worker not in self._owned:
            self._stretch_for(worker, video)
        self._publish_if_complete(video)

    def recorded(self, task: Task, has_tail: bool) -> None:
        """A window is finished, and with `has_tail` the next one can be."""
        clip = self.clips[task.video]
        clip.done.add(task.window)
        clip.held.discard(task.window)
        clip.settling.discard(task.window)
        if has_tail:
            self._tail_is_there(task.video, task.window)
        self._publish_if_complete(task.video)

    def held(self, task: Task, has_tail: bool) -> None:
        """A window is computed, and waits for the tail of the one before it."""
        clip = self.clips[task.video]
        clip.held.add(task.window)
        self._settle(task.video, task.window)
        if has_tail:
            self._tail_is_there(task.video, task.window)

    def again(self, task: Task) -> None:
        """A task has failed, or its worker is lost: it comes next."""
        if task.kind == "settle":
            self.clips[task.video].held.discard(task.window)
            self.clips[task.video].settling.discard(task.window)
            task = Task("window", task.video, task.window)
        self._urgent.appendleft(task)

    def redo(self, video: int, windows: Collection[int]) -> None:
        """Recorded windows have been lost by the disk."""
        clip = self.clips[video]
        self._publishing.discard(video)
        for window in windows:
            clip.done.discard(window)
            clip.tails.discard(window)
            self._urgent.append(Task("window", video, window))

    def close(self, video: int) -> None:
        """A video is published or given up: nothing more of it is handed out."""
        self._open.discard(video)
        self.clips.pop(video, None)
        self._loose = [s for s in self._loose if s.video != video]
        self._owned = {w: s for w, s in self._owned.items() if s.video != video}

    def drop(self, worker: int) -> None:
        """A worker is lost: what it had before it is anyone's."""
        stretch = self._owned.pop(worker, None)
        if stretch is not None:
            self._loose.append(stretch)

    def _tail_is_there(self, video: int, window: int) -> None:
        self.clips[video].tails.add(window)
        self._settle(video, window + 1)

    def _settle(self, video: int, window: int) -> None:
        """Let a held window be finished, once, if what it waits for is there."""
        clip = self.clips[video]
        if window in clip.held and window - 1 in clip.tails and window not in clip.settling:
            clip.settling.add(window)
            self._urgent.append(Task("settle", video, window))

    def _publish_if_complete(self, video: int) -> None:
        if self.clips[video].complete and video not in self._publishing:
            self._publishing.add(video)
            self._urgent.append(Task("publish", video))

    def _stretch_for(self, worker: int, video: int | None = None) -> _Stretch | None:
        """The first loose stretch in order (of `video`), now this worker's."""
        loose = [s for s in self._loose if video is None or s.video == video]
        if not loose:
            return None
        stretch = min(loose, key=self._place)
        self._loose.remove(stretch)
        self._owned[worker] = stretch
        return stretch

    def _split(self, worker: int) -> _Stretch | None:
        """The back half of the first stretch in order that can be shared."""
        there = {w: s for w, s in self._owned.items() if self.clips[s.video].splittable}
        if not there:
            return None
        owner = min(there, key=lambda w: self._place(there[w]))
        stretch = there[owner]
        middle = (stretch.start + stretch.stop) // 2
        self._owned[worker] = taken = _Stretch(stretch.video, middle, stretch.stop)
        stretch.stop = middle
        if stretch.start == stretch.stop:
            del self._owned[owner]
        return taken

    def _place(self, stretch: _Stretch) -> tuple[float, int]:
        if self.order == "listed":
            return stretch.video, stretch.start
        share = (stretch.stop - stretch.start) / len(self.clips[stretch.video].fresh)
        return -share * self._sizes[stretch.video], stretch.start


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as (first, one behind the last)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1] = runs[-1][0], number + 1
        else:
            runs.append((number, number + 1))
    return runs
