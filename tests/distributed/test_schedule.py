"""The queue: in whatever order things happen, every window is recorded, once its tail is there."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from framelift.distributed.connect import layout
from framelift.distributed.schedule import Clip, Schedule, Task
from framelift.engine.settings import UpscaleSettings


class Workers:
    """Carries tasks out in any order, on a disk that obeys the rules of the journal."""

    def __init__(self, schedule: Schedule, clips: list[Clip], seed: int) -> None:
        self.schedule, self.clips = schedule, clips
        self.random = random.Random(seed)
        self.inside: list[tuple[int, Task]] = []
        self.recorded: list[set[int]] = [set(clip.done) for clip in clips]
        self.held: list[set[int]] = [set() for _ in clips]
        self.tails: list[set[int]] = [set(clip.tails) for clip in clips]
        self.computed: list[Task] = []
        self.published: list[int] = []

    def hand_out(self, workers: int) -> None:
        for worker in range(workers):
            inside = sum(w == worker for w, _ in self.inside)
            if inside < 2 and (task := self.schedule.next(worker, idle=inside == 0)):
                self.inside.append((worker, task))

    def step(self) -> None:
        worker, task = self.inside.pop(self.random.randrange(len(self.inside)))
        if self.random.random() < 0.15:
            lost = [task, *(t for w, t in self.inside if w == worker)]
            self.inside = [(w, t) for w, t in self.inside if w != worker]
            self.schedule.drop(worker)
            for one in lost:
                self.schedule.again(one)
            return
        getattr(self, task.kind)(worker, task)

    def prepare(self, worker: int, task: Task) -> None:
        self.schedule.prepared(task.video, self.clips[task.video], worker)

    def window(self, worker: int, task: Task) -> None:
        video, window = task.video, task.window
        clip = self.clips[video]
        self.computed.append(task)
        has_tail = window + 1 < len(clip.fresh) and clip.overlaps[window + 1] > 0
        if clip.overlaps[window] and window - 1 not in self.tails[video]:
            self.held[video].add(window)
            if has_tail and clip.splittable:
                self.tails[video].add(window)
            self.schedule.held(task, has_tail and clip.splittable)
        else:
            self.record(task, has_tail)

    def settle(self, worker: int, task: Task) -> None:
        assert task.window in self.held[task.video]
        assert task.window - 1 in self.tails[task.video], "what it waits for is there"
        clip = self.clips[task.video]
        self.record(task, task.window + 1 < len(clip.fresh) and clip.overlaps[task.window + 1] > 0)

    def record(self, task: Task, has_tail: bool) -> None:
        assert task.window not in self.recorded[task.video], "once"
        self.recorded[task.video].add(task.window)
        if has_tail:
            self.tails[task.video].add(task.window)
        self.schedule.recorded(task, has_tail)

    def publish(self, worker: int, task: Task) -> None:
        assert self.recorded[task.video] == set(range(len(self.clips[task.video].fresh)))
        self.published.append(task.video)
        self.schedule.close(task.video)


@settings(max_examples=50)
@given(data=st.data())
def test_every_window_is_recorded_in_any_order(data):
    clips = []
    for _ in range(data.draw(st.integers(1, 5))):
        count = data.draw(st.integers(1, 12))
        overlaps = [0, *data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))]
        clip = Clip([4] * count, overlaps[:count], data.draw(st.booleans()))
        clip.done = data.draw(st.sets(st.integers(0, count - 1)))
        clip.tails = {n for n in clip.done if n + 1 < count and overlaps[n + 1]}
        clips.append(clip)
    order = data.draw(st.sampled_from(["longest", "listed"]))
    schedule = Schedule([len(clip.fresh) for clip in clips], order)
    workers = Workers(schedule, clips, data.draw(st.integers(0, 10**6)))
    count = data.draw(st.integers(1, 6))
    while not schedule.finished:
        workers.hand_out(count)
        assert workers.inside, "somebody always has something to do"
        workers.step()
    assert sorted(workers.published) == list(range(len(clips)))


def test_the_longest_is_opened_first_and_shared_last():
    sizes = [3.0, 9.0, 6.0]
    schedule = Schedule(sizes)
    opened = [schedule.next(worker) for worker in range(3)]
    assert [task.video for task in opened if task] == [1, 2, 0]
    for worker, task in enumerate(opened):
        assert task is not None
        count = int(sizes[task.video])
        schedule.prepared(task.video, Clip([1] * count, [0] * count, True), worker)
    short = [schedule.next(2) for _ in range(3)]
    assert [(t.video, t.window) for t in short if t] == [(0, 0), (0, 1), (0, 2)]
    assert schedule.next(2, idle=False) is None, "nothing is taken from others beforehand"
    stolen = schedule.next(2)
    assert stolen == Task("window", 1, 4), "the back half of the longest"
    assert schedule.next(0) == Task("window", 1, 0), "its owner goes on at the front"


def test_devices_are_shared_out():
    cpu = UpscaleSettings()
    alone = layout([{"CPU": 16.0}], None, cpu)
    assert (alone.workers, alone.share.threads, alone.share.memory) == (4, 4, 0.25)
    two = layout([{"CPU": 1.0}, {"CPU": 1.0}], 2, cpu)
    assert (two.workers, two.share.threads, two.share.memory) == (2, 1, 1.0)
    gpus = layout([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 64.0}], None, cpu)
    assert (gpus.workers, gpus.share.threads, gpus.share.gpu) == (4, 4, True)
    asked = layout([{"CPU": 16.0, "GPU": 4.0}], 3, UpscaleSettings(device="cpu", threads=2))
    assert (asked.workers, asked.share.threads, asked.share.gpu) == (3, 2, False)
