"""What StableVSR's time goes to, by part, and what its order of work saves.

    python benchmarks/stablevsr.py [--preset stablevsr] [--size 320x180] [--frames 8] [--repeats 3]
    python benchmarks/stablevsr.py --decoders [--latent 64] [--repeats 3]

One process, LR frames of a moving picture, at 1 and 2 threads. Every part is timed inside whole
calls of the pipeline, without the parts inside it; "rest" is what is left. The naive order
estimates flow on enlarged frames as the released code does, at every step anew, and decodes every
result again as a guide; it runs in turn with ours. Memory is the growth of the process's peak
over its size before the call. `--cpu` counts processor time, which other work disturbs less.

`--decoders` compares small guidance decoders with the full ones, in turn on one thread: of the
published preset (random weights, which cost the same) and of the bundled one.
"""

import argparse
import json
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from framelift.engine.heap import keep_freed_memory
from torch import Tensor

from framelift.device import choose_dtype
from framelift.diffusion import block_transform, codecs
from framelift.diffusion.codecs import KLCodec, latent_space
from framelift.flow import DISFlow
from framelift.methods.load import load_pipeline, outline
from framelift.methods.stablevsr.guidance import SampledFrame, TextureGuidance
from framelift.methods.stablevsr.guidance_decoder import build_guidance_decoder, decode_small
from framelift.methods.stablevsr.motion import Motion
from framelift.methods.stablevsr.pipeline import StableVSRPipeline
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.ops.noise import PositionNoise


class ForgetfulMotion(Motion):
    """Estimates a flow whenever it is asked for."""

    def flow(self, frame: int, neighbour: int) -> Tensor:
        self._known.clear()
        return super().flow(frame, neighbour)


class NaivePipeline(StableVSRPipeline):
    """The same sampling with nothing kept."""

    def texture_guidance(
        self, clip: Sequence[Tensor], settings: StableVSRSettings
    ) -> TextureGuidance:
        known = super().texture_guidance(clip, settings)
        motion = ForgetfulMotion(clip, known.motion._estimator, self.scale, enlarged=True)
        return replace(known, motion=motion)

    def finish(self, state: SampledFrame, settings: StableVSRSettings) -> Tensor:
        finished = super().finish(state, settings)
        state.picture = None
        return finished


@contextmanager
def timed(pipeline: Any, clock: Callable[[], float], parts: dict[str, float]) -> Iterator[None]:
    """Add up the seconds of each part, without those of parts inside it, while the block runs."""
    inner = [0.0]

    def watch(name: str, function: Callable) -> Callable:
        def run(*args: Any, **named: Any) -> Any:
            start = clock()
            inner.append(0.0)
            result = function(*args, **named)
            spent = clock() - start
            parts[name] += spent - inner.pop()
            inner[-1] += spent
            return result

        return run

    codec = type(pipeline.codec(torch.zeros(1, 3, 8, 8)))
    places = {
        (pipeline.unet, "forward"): "UNet",
        (pipeline.controlnet, "forward"): "TCM",
        (codec, "decode"): "decode",
        (codec, "guidance"): "guidance",
        (DISFlow, "__call__"): "flow",
        (TextureGuidance, "compensate"): "warp",
        (StableVSRPipeline, "finish"): "output",
        (StableVSRPipeline, "start"): "prepare",
        (PositionNoise, "__call__"): "noise",
        (block_transform, "upscale"): "enlarge",
        (codecs, "upscale"): "enlarge",
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


def once(
    pipeline: Any, clip: Tensor, settings: StableVSRSettings, clock: Callable[[], float]
) -> dict[str, float]:
    """Seconds a frame of the whole call and of its parts."""
    parts: dict[str, float] = defaultdict(float)
    start = clock()
    with timed(pipeline, clock, parts):
        pipeline(clip, settings=settings)
    whole = clock() - start
    parts["rest"] = whole - sum(parts.values())
    parts["outside the networks"] = whole - parts["UNet"] - parts["TCM"]
    parts["whole"] = whole
    return {name: seconds / len(clip) for name, seconds in parts.items()}


def decoders(latent: int, repeats: int) -> None:
    """Print the processor time of full and small guidance decoders, in turn."""
    torch.set_num_threads(1)
    vae: Any = outline("stablevsr-published")["vae"].to_empty(device="cpu").eval()
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    published = KLCodec(vae, torch.zeros(1, 3, latent, latent))
    pipeline: Any = load_pipeline("stablevsr")
    bundled = pipeline.codec(torch.rand(1, 3, 184, 320))
    print("| preset | latent | full, s | small, s | small / full | parameters, small |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, codec, network, channels, blocks in (
        ("published", published, vae, 64, (3, 3, 1)),
        ("bundled", bundled, pipeline.vae, 24, (1, 0, 0)),
    ):
        latents = latent_space(network)
        size = (1, latents.channels, *codec.lr.shape[-2:])
        small = build_guidance_decoder(latents, channels, blocks).eval()
        full, fast = in_turn(
            torch.randn(size), repeats, codec.decode, partial(decode_small, small, codec=codec)
        )
        count = sum(p.numel() for p in small.decoder.parameters()) / 1e6
        shape = f"{size[1]}×{size[2]}×{size[3]}"
        print(f"| {name} | {shape} | {full:.4f} | {fast:.4f} | {fast / full:.3f} | {count:.2f} M |")


@torch.no_grad()
def in_turn(latents: Tensor, repeats: int, *functions: Callable[[Tensor], Tensor]) -> list[float]:
    """Median processor time of each function, after one call that does not count."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for found, function in zip(times, functions, strict=True):
            start = time.process_time()
            function(latents)
            found.append(time.process_time() - start)
    return [median(found[1:]) for found in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="stablevsr")
    parser.add_argument("--size", default="320x184")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--decoders", action="store_true")
    parser.add_argument("--latent", type=int, default=64)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the engine does
    if arguments.decoders:
        return decoders(arguments.latent, arguments.repeats)
    clock = time.process_time if arguments.cpu else time.perf_counter
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
        once(ours, clip[:2], settings, clock)
        for _ in range(arguments.repeats):
            for name, pipeline, chosen in (
                ("ours", ours, settings),
                ("single", ours, single),
                ("naive order", naive, settings),
            ):
                found = once(pipeline, clip, chosen, clock)
                results.append({"threads": threads, "run": name, **found})
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
