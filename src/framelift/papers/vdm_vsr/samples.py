"""Restorations of reference clips, drawn in batches, measured and kept."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framelift.errors import StoppedError, UsageError
from framelift.evaluation.cache import Cache, code_digest, key_of, versions
from framelift.evaluation.protocols import find_protocol
from framelift.images import read_picture, to_rgb, write_picture
from framelift.methods.base import Step
from framelift.methods.vdm_vsr.pipeline import Measurement, VDMVSRPipeline
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.metrics.measure import measure_clip
from framelift.metrics.registry import build_metrics
from framelift.ops.noise import PositionNoise
from framelift.papers.reproduce import Request
from framelift.papers.vdm_vsr.prior import Prior
from framelift.papers.vdm_vsr.references import Reference, find_references
from framelift.papers.vdm_vsr.setup import read_setup
from framelift.types import Progress


@dataclass(frozen=True)
class Point:
    """One restoration of one clip: `kept` are the observed frames, from 0."""

    reference: int
    seed: int
    scale: int
    sigma_h: float
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """PSNR and SSIM of each frame of a restoration, and its frames where they were asked for."""

    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    frames: np.ndarray | None = None
    """uint8 `[T, H, W, 3]` RGB."""

    def value(self, metric: str, frame: int | None = None) -> float:
        """A metric of a frame, or its mean over the clip."""
        values = getattr(self, metric)
        return values[frame] if frame is not None else float(np.mean(values))


class ExperimentRun:
    """A prior, reference clips, and the samples of an output folder."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.setup, self.settings = read_setup(
            request.item, request.settings.full, request.settings.options
        )
        self.prior = Prior(request)
        self.shape = self.prior.shape
        self.references, self.data = find_references(request, self.setup.references, self.shape)
        protocol = find_protocol(request.item.protocol)
        self.metrics = build_metrics(("psnr", "ssim"), protocol.on(request.item.data[0].name))
        self.cache = Cache(request.output / "cache")
        self.computed = 0

    @cached_property
    def steps(self) -> int:
        return len(self.prior.pipeline.timesteps(self.settings))

    def settings_for(self, scale: int, sigma_h: float) -> VDMVSRSettings:
        """The method's settings for one operator."""
        zeta = self.settings.step_size
        if zeta is None:
            zeta = self.setup.step_sizes.get(str(scale))
        return replace(self.settings, downscale=scale, blur_sigma=sigma_h, step_size=zeta)

    def observe(self, point: Point) -> Tensor:
        """Every frame as seen through blur, decimation and sensor: `[T, 3, h, w]` in [-1, 1]."""
        reference = self.references[point.reference]
        x = reference.signal
        if self.setup.observe == "reconstruction":
            x = self.reconstruct(reference)
        operator = VDMVSRPipeline.operator(self.settings_for(point.scale, point.sigma_h))
        rng = np.random.default_rng([*self._seed(point), 1])
        return operator.observe(x, self.setup.sensor_noise, rng)

    @torch.no_grad()
    def reconstruct(self, reference: Reference) -> Tensor:
        """D(E(X)), the most that the prior's latents can say: `[T, 3, H, W]` in [-1, 1]."""
        codec, x = self.prior.pipeline.codec(), reference.signal.to(self.prior.device)
        return codec.decode(codec.encode(x)).cpu()

    def __call__(self, points: Iterable[Point], keep: bool = False) -> dict[Point, Sample]:
        """The samples of these points; what the output folder has is not drawn again.

        `keep` keeps the frames, too. A stop raises StoppedError; finished batches are kept.
        """
        wanted = list(dict.fromkeys(points))
        contents = {point: self._content(point) for point in wanted}
        missing = [p for p in wanted if not self._has(contents[p], keep)]
        batches = _batches(missing, self.setup.batch)
        done = 0
        for batch in batches:
            made = self._draw(batch, self._reporter(done, len(batch), len(missing)))
            for point, x in zip(batch, made, strict=True):
                content = contents[point]
                if keep:
                    write_picture(self._strip(content), np.concatenate(rgb(x), axis=1))
                self.cache.put(content, self.measure(self.references[point.reference], x))
            done += len(batch)
        self.computed += done
        return {point: self._sample(contents[point], keep) for point in wanted}

    def measure(self, reference: Reference, x: Tensor) -> dict[str, list[float]]:
        """PSNR and SSIM of every frame of `x` `[T, 3, H, W]` in [-1, 1]."""
        gt = (reference.signal + 1) / 2
        done = measure_clip(self.metrics, {"sr": (x.cpu() + 1) / 2}, gt)
        return {name: [v for v in row if v is not None] for name, row in done.values["sr"].items()}

    def _draw(self, batch: Sequence[Point], on_step: Callable[[Step], None]) -> Tensor:
        pipeline, measurements, noises = self.prior.pipeline, [], []
        for point in batch:
            y = self.observe(point)[list(point.kept)].to(self.prior.device)
            operator = pipeline.operator(self.settings_for(point.scale, point.sigma_h))
            measurements.append(Measurement(y, operator, point.kept))
            seed = np.random.SeedSequence(self._seed(point)).generate_state(1, np.uint64)
            noises.append(PositionNoise(int(seed[0]), block=pipeline.limits.noise_block))
        settings = self.settings_for(batch[0].scale, batch[0].sigma_h)
        made = pipeline.sample(
            measurements, self.shape, settings=settings, noises=noises, on_step=on_step
        )
        if not made.isfinite().all():
            raise UsageError(
                "Sampling diverged: its result is not finite.",
                "Correct less at each step, as with --options step_size=0.1",
            )
        return made

    def _reporter(self, done: int, size: int, total: int) -> Callable[[Step], None]:
        """Progress in frames, and the place to stop."""
        frames = self.shape[0]

        def on_step(step: Step) -> None:
            if self.request.should_stop():
                raise StoppedError(
                    f"Stopped at clip {done + 1} of {total}.",
                    "Run the same command again to continue.",
                )
            now = int((done + size * step.done) * frames)
            self.request.on_progress(Progress("upscale", now, total * frames))

        return on_step

    def _seed(self, point: Point) -> list[int]:
        return [self.request.settings.seed, point.reference, point.seed]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the samples of all points alike."""
        return {
            "prior": self.prior.identity,
            "settings": asdict(replace(self.settings, checkpointing=False)),
            "step_sizes": self.setup.step_sizes,
            "observe": [self.setup.observe, self.setup.sensor_noise],
            "metrics": {m.name: m.protocol for m in self.metrics},
            "code": code_digest(),
            "versions": versions("torch", "diffusers", "opencv-python-headless"),
        }

    def _content(self, point: Point) -> dict[str, Any]:
        """Everything that decides a sample."""
        return {
            **self.identity,
            "point": asdict(point),
            "clip": self.references[point.reference].digest,
            "seed": self._seed(point),
        }

    def _strip(self, content: dict[str, Any]) -> Path:
        return self.request.output / "frames" / f"{key_of(content)[:24]}.png"

    def _has(self, content: dict[str, Any], keep: bool) -> bool:
        kept = self.cache.get(content) is not None
        return kept and (not keep or self._strip(content).exists())

    def _sample(self, content: dict[str, Any], keep: bool) -> Sample:
        record = self.cache.get(content)
        frames = None
        if keep:
            frames = np.stack(np.split(read_picture(self._strip(content)), self.shape[0], axis=1))
        return Sample(tuple(record["psnr"]), tuple(record["ssim"]), frames)


def rgb(x: Tensor) -> list[np.ndarray]:
    """Frames `[T, 3, H, W]` in [-1, 1] as uint8 `[H, W, 3]`."""
    return [to_rgb((frame + 1) / 2, deep=False) for frame in x]


def _batches(points: Sequence[Point], size: int) -> list[list[Point]]:
    """Batches of one scale each: the step size depends on it."""
    found = []
    for scale in dict.fromkeys(point.scale for point in points):
        group = [point for point in points if point.scale == scale]
        found += [group[i : i + size] for i in range(0, len(group), size)]
    return found
