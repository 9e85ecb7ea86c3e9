"""What a step of VDM-VSR costs, by part, and its memory against frames.

    python benchmarks/vdm_vsr.py [--preset vdm-vsr-mnist] [--batch 4] [--steps 5] [--repeats 3]

The parts are timed in the order of `sample`: the prior forward, the decoder forward, the operator,
and the gradient through all three. Memory: every number of frames in a process of its own, with
and without activation checkpointing; the growth of its peak over its size before sampling.
`--size authors` takes the network of the authors' first preset (29.6 M) with random weights.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any

import psutil
import torch

import framelift  # noqa: F401 - repairs torchvision before diffusers is imported
from framelift.degrade.stages.observe import Observation
from framelift.methods.load import load_pipeline
from framelift.methods.vdm_vsr.pipeline import Measurement
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.ops.noise import PositionNoise


def load(arguments: argparse.Namespace) -> Any:
    pipeline: Any = load_pipeline(arguments.preset, dtype=getattr(torch, arguments.dtype))
    if arguments.size == "authors":
        channels = pipeline.latent_space.channels
        network = STDiT(in_channels=channels).to(getattr(torch, arguments.dtype))
        pipeline.register_modules(transformer=network.requires_grad_(False))
    return pipeline


def measurements(pipeline: Any, batch: int, frames: int, scale: int) -> list[Measurement]:
    height, width = pipeline.config["height"], pipeline.config["width"]
    generator = torch.Generator().manual_seed(0)
    operator = Observation(scale)
    clips = [
        torch.rand(frames, 3, height, width, generator=generator) * 2 - 1 for _ in range(batch)
    ]
    return [Measurement(operator(x), operator) for x in clips]


def by_part(pipeline: Any, batch: int, settings: VDMVSRSettings) -> dict[str, float]:
    """Seconds of one step for each clip of a batch."""
    frames = pipeline.config["frames"]
    known = measurements(pipeline, batch, frames, settings.downscale)
    channels, *size = pipeline.latent_space.size(
        pipeline.config["height"], pipeline.config["width"]
    )
    z = torch.randn(batch, channels, frames, *size).requires_grad_()
    seconds: dict[str, float] = defaultdict(float)
    mark = time.perf_counter()

    def lap(part: str) -> None:
        nonlocal mark
        now = time.perf_counter()
        seconds[part] += (now - mark) / batch
        mark = now

    epsilon, _ = pipeline.denoise(z, 500)
    z0 = pipeline.transition(500, 480, z.device).z0(z, epsilon)
    lap("prior")
    decoded = pipeline.decode(z0.transpose(1, 2))
    lap("decode")
    residuals = [(m.y - m.operator(x)).norm() for m, x in zip(known, decoded, strict=True)]
    lap("operator")
    torch.autograd.grad(torch.stack(residuals).sum(), z)
    lap("gradient")
    block = pipeline.limits.noise_block
    for noise in range(batch):
        PositionNoise(noise, block=block)("step", frames, (z.shape[1], *size), 1)
    lap("noise")
    return seconds


def sampled(pipeline: Any, batch: int, steps: int, settings: VDMVSRSettings) -> float:
    """Seconds of one step for each clip, in a whole run of `sample`."""
    frames = pipeline.config["frames"]
    known = measurements(pipeline, batch, frames, settings.downscale)
    size = (frames, pipeline.config["height"], pipeline.config["width"])
    start = time.perf_counter()
    pipeline.sample(
        known,
        size,
        settings=settings,
        noises=[PositionNoise(i, block=pipeline.limits.noise_block) for i in range(batch)],
    )
    return (time.perf_counter() - start) / (batch * steps)


def peak(arguments: argparse.Namespace, frames: int, checkpointing: bool) -> float:
    """MiB that two steps add to a fresh process."""
    words = [sys.executable, __file__, "--child", json.dumps([frames, checkpointing])]
    for name in ("preset", "dtype", "size", "batch"):
        words += [f"--{name}", str(getattr(arguments, name))]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def child(arguments: argparse.Namespace) -> None:
    frames, checkpointing = json.loads(arguments.child)
    pipeline = load(arguments)
    torch.set_num_threads(1)
    settings = VDMVSRSettings(steps=2, step_size=0.1, checkpointing=checkpointing)
    known = measurements(pipeline, arguments.batch, frames, settings.downscale)
    size = (frames, pipeline.config["height"], pipeline.config["width"])
    noises = [PositionNoise(i, block=pipeline.limits.noise_block) for i in range(arguments.batch)]
    before = psutil.Process().memory_info().rss
    pipeline.sample(known, size, settings=settings, noises=noises)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print((after - before) / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="vdm-vsr-mnist")
    parser.add_argument("--size", choices=("preset", "authors"), default="preset")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--frames", type=int, nargs="*", default=[5, 10, 20, 40])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments)
    show_time(arguments)
    print("\n| frames | peak MiB | with checkpointing | ratio |\n| ---: | ---: | ---: | ---: |")
    for frames in arguments.frames:
        plain, saving = (peak(arguments, frames, c) for c in (False, True))
        print(f"| {frames} | {plain:.0f} | {saving:.0f} | {saving / plain:.2f} |", flush=True)
    return None


def show_time(arguments: argparse.Namespace) -> None:
    pipeline = load(arguments)
    count = sum(p.numel() for p in pipeline.transformer.parameters()) / 1e6
    print(f"{count:.2f} M parameters, {arguments.dtype}, batch {arguments.batch}\n")
    names = ("prior", "decode", "operator", "gradient", "noise")
    print(f"| threads | checkpointing | ms a clip and step | {' | '.join(names)} |")
    print("| --- " * (3 + len(names)) + "|")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for checkpointing in (False, True):
            settings = VDMVSRSettings(
                steps=arguments.steps, step_size=0.1, checkpointing=checkpointing
            )
            sampled(pipeline, 1, arguments.steps, settings)  # also switches checkpointing
            whole, parts = [], []
            for _ in range(arguments.repeats):
                whole.append(sampled(pipeline, arguments.batch, arguments.steps, settings))
                parts.append(by_part(pipeline, arguments.batch, settings))
            medians = {n: statistics.median(p[n] for p in parts) for n in names}
            shares = " | ".join(f"{v / sum(medians.values()):.0%}" for v in medians.values())
            milliseconds = 1e3 * statistics.median(whole)
            print(f"| {threads} | {checkpointing} | {milliseconds:.1f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
