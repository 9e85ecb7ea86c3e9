"""A library on 1 to 1,000 workers, simulated: makespan, idle workers, lost work, cost.

    python benchmarks/cluster_plan.py TIMES [--hours 200] [--workers 1 10 100 1000]
        [--failures 0 60 5] [--price 0.05] [--scale 1.0]

The queue is the real one (framelift.distributed.schedule); a task's seconds are drawn from those
that `benchmarks/cluster.py --times` has recorded, networks times `--scale` for faster devices. A
library has films of a log-normal length (median 12 minutes, up to 3 hours). Surveys and jumps
decode at the recorded rate, a publication copies. `--failures` are minutes between two losses of a
worker anywhere (0: never): it loses the task that it is at and comes back after a minute, its
reader at the beginning. Prints a Markdown table; `--price` is that of a worker's hour.
"""

import argparse
import heapq
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framelift.distributed.schedule import Clip, Order, Schedule, Task

RATE = 24  # frames a second of the films
RESTART = 60.0  # seconds until a lost worker has its networks again


@dataclass(frozen=True)
class Times:
    """Recorded seconds: of a frame in the networks (a list, with its stragglers), of a frame's
    reading and writing, of a frame that is decoded only, of a publication a frame."""

    network: list[float]
    around: float
    decode: float
    publish: float

    @staticmethod
    def read(path: Path, scale: float) -> "Times":
        """Times of a file that benchmarks/cluster.py has written."""
        content = json.loads(path.read_text())
        tasks: list[dict[str, Any]] = content["tasks"]
        windows = [t for t in tasks if t["kind"] == "window"]
        surveys = [t["survey"] for t in tasks if t["kind"] == "prepare"]
        frames = content["frames"]
        network = [t["pipeline"] * scale * len(windows) / frames for t in windows]
        parts = ("blend", "colour", "encode", "journal", "read")
        around = sum(t.get(part, 0.0) for t in windows for part in parts) / frames
        decode = sum(surveys) / frames
        return Times(network, around, decode, decode / 4)


@dataclass
class Worker:
    """What a simulated worker does, and where its reader stands."""

    task: Task | None = None
    began: float = 0.0
    generation: int = 0
    at: dict[int, int] = field(default_factory=dict)
    up: bool = True


@dataclass
class Outcome:
    """Seconds until the last video is done; of work, of idle workers, of work lost, of jumps."""

    makespan: float = 0.0
    work: float = 0.0
    lost: float = 0.0
    jumps: float = 0.0
    windows: int = 0


class Simulation:
    """Events in the order of their times."""

    def __init__(
        self,
        films: list[int],
        workers: int,
        order: Order,
        times: Times,
        window: int,
        minutes: float,
        seed: int,
    ) -> None:
        self.films, self.times, self.window = films, times, window
        self.random = random.Random(seed)
        self.schedule = Schedule([float(f) for f in films], order)
        self.workers = [Worker() for _ in range(workers)]
        self.events: list[tuple[float, int, str, int, int]] = []
        self.count = 0
        self.minutes = minutes
        self.idle: list[int] = []
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Until every film is published."""
        if self.minutes:
            self._plan_failure(0.0)
        for number in range(len(self.workers)):
            self._give(number, 0.0)
        while not self.schedule.finished:
            now, _, kind, number, generation = heapq.heappop(self.events)
            worker = self.workers[number]
            if kind == "fail":
                self._fail(self.random.randrange(len(self.workers)), now)
                self._plan_failure(now)
            elif kind == "back":
                worker.up = True
                self._give(number, now)
            elif generation == worker.generation and worker.task is not None:
                self._finish(number, now)
            self.outcome.makespan = now
        return self.outcome

    def _push(self, at: float, kind: str, number: int) -> None:
        self.count += 1
        generation = self.workers[number].generation
        heapq.heappush(self.events, (at, self.count, kind, number, generation))

    def _plan_failure(self, now: float) -> None:
        self._push(now + self.random.expovariate(1 / (self.minutes * 60)), "fail", 0)

    def _give(self, number: int, now: float) -> None:
        worker = self.workers[number]
        task = self.schedule.next(number) if worker.up else None
        worker.task = task
        if task is None:
            if worker.up:
                self.idle.append(number)
            return
        worker.began = now
        self._push(now + self._seconds(worker, task), "done", number)

    def _seconds(self, worker: Worker, task: Task) -> float:
        frames, times = self.films[task.video], self.times
        if task.kind == "prepare":
            return frames * times.decode
        if task.kind == "publish":
            return frames * times.publish
        start = task.window * self.window
        count = min(self.window, frames - start)
        before = worker.at.get(task.video, 0)
        skipped = start - before if start >= before else start
        worker.at = {task.video: start + count}
        self.outcome.jumps += skipped * times.decode
        network = self.random.choice(times.network)
        return skipped * times.decode + count * (network + times.around)

    def _finish(self, number: int, now: float) -> None:
        worker, task = self.workers[number], self.workers[number].task
        assert task is not None
        self.outcome.work += now - worker.began
        if task.kind == "prepare":
            count = -(-self.films[task.video] // self.window)
            clip = Clip([self.window] * count, [0] * count, True)
            self.schedule.prepared(task.video, clip, number)
        elif task.kind == "publish":
            self.schedule.close(task.video)
        else:
            self.outcome.windows += 1
            self.schedule.recorded(task, False)
        self._give(number, now)
        if task.kind == "prepare":
            self._wake(now)

    def _wake(self, now: float) -> None:
        waiting, self.idle = self.idle, []
        for other in waiting:
            self._give(other, now)

    def _fail(self, number: int, now: float) -> None:
        worker = self.workers[number]
        if not worker.up:
            return
        self.idle = [n for n in self.idle if n != number]
        self.schedule.drop(number)
        if worker.task is not None:
            self.outcome.lost += now - worker.began
            self.schedule.again(worker.task)
        worker.task, worker.up, worker.at = None, False, {}
        worker.generation += 1
        self._push(now + RESTART, "back", number)
        self._wake(now)


def films_of(hours: float, seed: int) -> Iterator[int]:
    """Lengths of films in frames, until they fill so many hours."""
    rng = random.Random(seed)
    left = hours * 3600.0
    while left > 0:
        seconds = min(rng.lognormvariate(6.58, 1.0), 3 * 3600.0, left + 1)
        left -= seconds
        yield max(RATE, round(seconds * RATE))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("times", type=Path)
    parser.add_argument("--hours", type=float, default=200)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--failures", type=float, nargs="+", default=[0, 60, 5])
    parser.add_argument("--window", type=int, default=24)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--price", type=float, default=0.05)
    args = parser.parse_args()
    times = Times.read(args.times, args.scale)
    films = list(films_of(args.hours, 0))
    random.Random(1).shuffle(films)
    mean = sum(times.network) / len(times.network)
    print(
        f"{len(films)} films, {sum(films) / RATE / 3600:.0f} h; a frame: networks {mean:.4f} s "
        f"(slowest window {max(times.network) / mean:.1f} times the mean), reading and writing "
        f"{times.around:.4f} s, decoding alone {times.decode:.5f} s\n"
    )
    head = "| workers | failure every | order | makespan h | busy | jumps | lost work | an hour |"
    print(f"{head}\n|{' --- |' * 8}")
    for workers in args.workers:
        for minutes in args.failures:
            for order in ("listed", "longest"):
                found = Simulation(films, workers, order, times, args.window, minutes, 2).run()
                paid = found.makespan * workers
                cost = paid / 3600 * args.price / (sum(films) / RATE / 3600)
                print(
                    f"| {workers} | {f'{minutes:g} min' if minutes else 'never'} | {order} "
                    f"| {found.makespan / 3600:.2f} | {found.work / paid:.1%} "
                    f"| {found.jumps / paid:.2%} | {found.lost / paid:.3%} | {cost:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
