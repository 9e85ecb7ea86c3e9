"""What StableVSR's time goes to, by part, and what its order of work saves.

    python benchmarks/stablevsr.py [--preset stablevsr] [--size 320x180] [--frames 8] [--repeats 3]

One process, LR frames of a moving picture, at 1 and 2 threads. Every part is timed inside whole
calls of the pipeline; "rest" is what is left. The naive order estimates flow on enlarged frames as
the released code does, at every step anew, and decodes every estimate again for the output; it
runs in turn with ours. Memory is the growth of the process's peak over its size before the call.
"""

import argparse
import json
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from framelift.engine.budget import choose_dtype
from framelift.methods.load import load_pipeline
from framelift.methods.stablevsr.motion import Motion
from framelift.methods.stablevsr.pipeline import FrameState, StableVSRPipeline
from framelift.methods.stablevsr.settings import StableVSRSettings


class ForgetfulMotion(Motion):
    """Estimates a flow whenever it is asked for."""

    def flow(self, frame: int, neighbour: int) -> Tensor:
        self._known.clear()
        return super().flow(frame, neighbour)


class NaivePipeline(StableVSRPipeline):
    """The same sampling with nothing kept."""

    def motion(self, lr: Tensor, settings: StableVSRSettings) -> Motion:
        known = super().motion(lr, settings)
        return ForgetfulMotion(lr, known._estimator, self.scale, enlarged=True)

    def finish(self, state: FrameState, settings: StableVSRSettings) -> Tensor:
        state.picture = None
        return super().finish(state, settings)


@contextmanager
def timed(pipeline: Any, parts: dict[str, float]) -> Iterator[None]:
    """Add up the seconds of each part while the block runs."""

    def watch(name: str, function: Callable) -> Callable:
        def run(*args: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **named)
            parts[name] += time.perf_counter() - start
            return result

        return run

    codec = type(pipeline.codec)
    places = {
        (pipeline.unet, "forward"): "UNet",
        (pipeline.controlnet, "forward"): "TCM",
        (codec, "to_frames"): "decode",
        (codec, "guidance"): "guidance over gain",
        (Motion, "between"): "flow",
        (StableVSRPipeline, "compensate"): "warp",
    }
    originals = {place: getattr(*place) for place in places}
    for (owner, name), part in places.items():
        setattr(owner, name, watch(part, originals[owner, name]))
    try:
        yield
    finally:
        for (owner, name), original in originals.items():
            setattr(owner, name, original)


def moving(frames: int, height: int, width: int) -> Tensor:
    torch.manual_seed(0)
    still = torch.nn.functional.interpolate(torch.rand(1, 3, 23, 40), size=(height, width))[0]
    return torch.stack([still.roll((n, 2 * n), (-2, -1)) for n in range(frames)])


def once(pipeline: Any, clip: Tensor, settings: StableVSRSettings) -> dict[str, float]:
    parts: dict[str, float] = defaultdict(float)
    start = time.perf_counter()
    with timed(pipeline, parts):
        pipeline(clip, settings=settings)
    parts["whole"] = time.perf_counter() - start
    parts["rest"] = 2 * parts["whole"] - sum(parts.values())
    return {name: seconds / len(clip) for name, seconds in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="stablevsr")
    parser.add_argument("--size", default="320x184")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    clip = moving(arguments.frames, height, width)
    dtype = choose_dtype("auto", torch.device("cpu"))
    ours = load_pipeline(arguments.preset, dtype=dtype)
    naive = NaivePipeline(**ours.components, **_options(ours))
    settings = StableVSRSettings()
    single = StableVSRSettings(sampling="single")
    before = psutil.Process().memory_info().rss
    results = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        once(ours, clip[:2], settings)
        for _ in range(arguments.repeats):
            for name, pipeline, chosen in (
                ("ours", ours, settings),
                ("single", ours, single),
                ("naive order", naive, settings),
            ):
                results.append({"threads": threads, "run": name, **once(pipeline, clip, chosen)})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    show(results, (peak - before) / 2**20 / arguments.frames)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1))


def _options(pipeline: Any) -> dict[str, Any]:
    return {k: v for k, v in pipeline.config.items() if not k.startswith("_")
            and k not in pipeline.components}  # fmt: skip


def show(results: list[dict], megabytes: float) -> None:
    names = sorted({n for r in results for n in r} - {"threads", "run", "whole"})
    print(f"| threads | run | s a frame | {' | '.join(names)} |")
    print("| --- " * (3 + len(names)) + "|")
    for threads, run in dict.fromkeys((r["threads"], r["run"]) for r in results):
        rows = [r for r in results if (r["threads"], r["run"]) == (threads, run)]
        best = min(rows, key=lambda r: r["whole"])
        shares = " | ".join(f"{best.get(n, 0) / best['whole']:.1%}" for n in names)
        print(f"| {threads} | {run} | {best['whole']:.3f} | {shares} |")
    print(f"\nfastest of the repeats; peak memory {megabytes:.0f} MiB a frame")


if __name__ == "__main__":
    main()
