"""Two one-thread workers against one, what the driver costs, task times for cluster_plan.py.

    python benchmarks/cluster.py [--clips 4] [--frames 96] [--size 160x90] [--rounds 2]
                                 [--preset image-ldm] [--window 8] [--times FILE]

Upscales the same clips with one and with two workers, turn by turn, through a real local Ray, and
prints frames a second from the first task on (starting Ray and loading networks excluded; both are
printed), the share of the time in which the networks of the workers were at work (on a machine that
does more than this, the better measure: twice the workers at the same share are twice as fast where
each has a core), processor seconds of the driver a window, and what a 5-minute clip adds to the
memory of the driver. `--times` writes the seconds of every task to a JSON file.
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from memory import make_clip

from framelift.distributed import ClusterSettings, upscale
from framelift.engine.settings import UpscaleSettings
from framelift.errors import StoppedError

FIVE_MINUTES = 5 * 60 * 24  # frames


def run(clips: Path, workers: int, preset: str, window: int | None) -> dict[str, Any]:
    """Frames a second, the driver's seconds, and the seconds of every task."""
    settings = UpscaleSettings(preset=preset, threads=1, tile=4096, window=window)
    tasks: list[dict[str, Any]] = []
    began, processor = [time.perf_counter()], [0.0]

    def on_change(status):
        if status.state == "running" and len(began) == 1:
            began.append(time.perf_counter())
            processor.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        outcomes = upscale(
            [clips], folder, settings, ClusterSettings("local", workers), on_change=on_change,
            on_task=lambda task, seconds: tasks.append({"kind": task.kind, **seconds}),
        )  # fmt: skip
        ended, spent = time.perf_counter(), time.process_time() - processor[1]
    assert all(outcome.record is not None for outcome in outcomes)
    frames = sum(outcome.record["frames"] for outcome in outcomes if outcome.record)
    windows = sum(task["kind"] == "window" for task in tasks)
    computing = sum(task.get("pipeline", 0.0) for task in tasks)
    return {
        "rate": frames / (ended - began[1]),
        "busy": computing / (workers * (ended - began[1])),
        "start": began[1] - began[0],
        "driver": spent / windows,
        "windows": windows,
        "tasks": tasks,
    }


def driver_memory(clip: Path, preset: str) -> tuple[float, int]:
    """MiB of the driver when the first window of a clip is done, and its windows' number."""
    seen: list[float] = []
    settings = UpscaleSettings(preset=preset, threads=1, tile=4096)
    frames = 0

    def on_change(status):
        nonlocal frames
        if status.done:
            frames = status.frames
            seen.append(psutil.Process().memory_info().rss / 2**20)

    with tempfile.TemporaryDirectory() as folder, suppress(StoppedError):
        upscale(
            [clip], folder, settings, ClusterSettings("local", 1), on_change=on_change,
            should_stop=lambda: bool(seen),
        )  # fmt: skip
    return seen[0], frames


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--size", default="160x90")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--preset", default="image-ldm")
    parser.add_argument("--window", type=int)
    parser.add_argument("--times", type=Path)
    parser.add_argument("--only", choices=["speed", "memory"])
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    load = psutil.getloadavg()[0]
    print(f"{psutil.cpu_count()} cores, load {load:.1f} before the start")
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(folder, "clips")
        clips.mkdir()
        for number in range(args.clips):
            make_clip(clips / f"{number}.mp4", args.frames, width, height)
            (clips / f"{number}.mkv").unlink()  # what the clip was joined from
        if args.only != "memory":
            speed(clips, args)
        if args.only != "speed":
            short, long = Path(folder, "second.mp4"), Path(folder, "minutes.mp4")
            make_clip(short, 24, 32, 24)
            make_clip(long, FIVE_MINUTES, 32, 24)
            (before, _), (after, frames) = (
                driver_memory(path, args.preset) for path in (short, long)
            )
            print(
                f"driver: {before:.1f} MiB with a clip of 24 frames, {after:.1f} MiB with one of "
                f"{frames} frames"
            )


def speed(clips: Path, args: argparse.Namespace) -> None:
    """Print the comparison, turn by turn."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    tasks: list[dict[str, Any]] = []
    for turn in range(args.rounds):
        for workers in (1, 2) if turn % 2 == 0 else (2, 1):
            found = run(clips, workers, args.preset, args.window)
            rates[workers].append(found["rate"])
            tasks += found["tasks"] if workers == 1 else []
            print(
                f"{workers} workers: {found['rate']:.2f} frames/s over {found['windows']} windows, "
                f"networks busy {found['busy']:.0%} of the time; "
                f"started in {found['start']:.1f} s; driver {1000 * found['driver']:.1f} ms of "
                "processor a window, all of Ray's threads in it included",
                flush=True,
            )
    one, two = statistics.mean(rates[1]), statistics.mean(rates[2])
    print(f"two workers against one: {two / one:.2f} times the frames a second")
    if args.times:
        frames = args.clips * args.frames * args.rounds
        content = {"size": args.size, "preset": args.preset, "frames": frames, "tasks": tasks}
        args.times.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
