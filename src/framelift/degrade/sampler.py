"""Random parameters of a recipe as a function of (seed, clip, stage)."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framelift.degrade.stages import (
    Blur,
    Codec,
    Jpeg,
    Motion,
    Noise,
    Range,
    Resize,
    Shuffle,
    Stage,
    Weights,
)

PARAMETERS, FRAMES = 0, 1  # two generators for each stage: drawn once, and drawn frame by frame


@dataclass(frozen=True)
class Drawn:
    """A stage with the parameters drawn for one clip; `drift` bounds those that change by frame."""

    stage: Stage
    values: dict[str, Any]
    drift: dict[str, tuple[Range, float]]
    key: tuple[int, ...]

    def rng(self) -> np.random.Generator:
        """A fresh generator for noise and drift; frame 0 comes first."""
        return np.random.default_rng([*self.key, FRAMES])

    def drifted(self, values: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """The parameters of the next frame."""
        moved = dict(values)
        for name, ((low, high), step) in self.drift.items():
            moved[name] = float(np.clip(moved[name] + rng.uniform(-step, step), low, high))
        return moved

    def describe(self) -> dict[str, Any]:
        """Name and parameters, for records."""
        return {"op": type(self.stage).__name__.lower(), **self.values}


def draw(stages: Sequence[Stage], seed: int, clip: str, scale: int, first: int = 0) -> list[Drawn]:
    """Draw the stages of a clip, in the order in which they apply; skipped ones are left out.

    A stage's generator is seeded by (`seed`, hash of `clip`, position in the recipe counted from
    `first`), so that a changed stage leaves the draws of the others alone.
    """
    name = int.from_bytes(hashlib.blake2b(clip.encode(), digest_size=8).digest(), "little")
    return _draw(stages, (seed % 2**64, name), scale, first)


def count(stages: Sequence[Stage]) -> int:
    """How many positions the stages take, nested ones included."""
    return sum(
        1 + (count(s.first) + count(s.second) if isinstance(s, Shuffle) else 0) for s in stages
    )


def _draw(stages: Sequence[Stage], key: tuple[int, ...], scale: int, place: int) -> list[Drawn]:
    drawn: list[Drawn] = []
    for stage in stages:
        own = (*key, place)
        rng = np.random.default_rng([*own, PARAMETERS])
        if isinstance(stage, Shuffle):
            first = _draw(stage.first, key, scale, place + 1)
            second = _draw(stage.second, key, scale, place + 1 + count(stage.first))
            drawn += second + first if rng.random() < stage.swap else first + second
        elif rng.random() < getattr(stage, "probability", 1.0):
            values, drift = _parameters(stage, rng, scale)
            moving = {name: limits for name, limits in drift.items() if limits[1] > 0}
            drawn.append(Drawn(stage, values, moving, own))
        place += count([stage])
    return drawn


Parameters = tuple[dict[str, Any], dict[str, tuple[Range, float]]]


def _parameters(stage: Stage, rng: np.random.Generator, scale: int) -> Parameters:
    match stage:
        case Blur():
            return _blur(stage, rng, scale)
        case Resize():
            return _resize(stage, rng)
        case Noise():
            return _noise(stage, rng)
        case Jpeg():
            drift = {"quality": (stage.quality, stage.quality_step)}
            return {"quality": float(rng.uniform(*stage.quality))}, drift
        case Codec():
            name, limits = ("bit_rate", stage.bit_rate) if stage.bit_rate else ("crf", stage.crf)
            return {
                "codec": _choice(stage.codecs, rng),
                name: float(rng.uniform(*limits or (0, 0))),
            }, {}
        case Motion():
            return _motion(stage, rng), {}
    return {}, {}


def _blur(stage: Blur, rng: np.random.Generator, scale: int) -> Parameters:
    kernel, size = _choice(stage.kernels, rng), int(rng.choice(stage.sizes))
    values: dict[str, Any] = {"kernel": kernel, "size": size}
    drift: dict[str, tuple[Range, float]] = {}

    def add(name: str, limits: Range, step: float, value: float) -> None:
        values[name], drift[name] = value, (limits, step)

    if kernel == "sinc":
        cutoff = stage.cutoff or (math.pi / (3 if size < 13 else 5), math.pi)
        add("cutoff", cutoff, stage.cutoff_step, float(rng.uniform(*cutoff)))
        return values, drift
    unit = scale if stage.sigma_unit == "scale" else 1
    sigma = stage.sigma[0] * unit, stage.sigma[1] * unit
    add("sigma_x", sigma, stage.sigma_step, float(rng.uniform(*sigma)))
    if kernel.endswith("aniso"):
        add("sigma_y", sigma, stage.sigma_step, float(rng.uniform(*sigma)))
        add("angle", stage.angle, stage.angle_step, float(rng.uniform(*stage.angle)))
    if kernel.startswith("generalized"):
        shape = _shape(stage.beta_gaussian, rng)
        add("beta", stage.beta_gaussian, stage.beta_gaussian_step, shape)
    if kernel.startswith("plateau"):
        add("beta", stage.beta_plateau, stage.beta_plateau_step, _shape(stage.beta_plateau, rng))
    return values, drift


def _shape(limits: Range, rng: np.random.Generator) -> float:
    """β as Real-ESRGAN draws it: below 1 as often as above."""
    low, high = limits
    below = rng.random() < 0.5
    if not low <= 1 <= high:
        return float(rng.uniform(low, high))
    return float(rng.uniform(low, 1) if below else rng.uniform(1, high))


def _resize(stage: Resize, rng: np.random.Generator) -> Parameters:
    low, high = stage.factor
    direction = _choice(stage.directions, rng)
    ends = {"up": (1.0, max(1.0, high)), "down": (min(1.0, low), 1.0), "keep": (1.0, 1.0)}
    factor = float(rng.uniform(*ends[direction]))
    limits = min(low, 1.0), max(high, 1.0)
    values = {"factor": factor, "filter": _choice(stage.filters, rng)}
    return values, {"factor": (limits, stage.factor_step)}


def _noise(stage: Noise, rng: np.random.Generator) -> Parameters:
    kind = _choice(stage.kinds, rng)
    limits = stage.sigma if kind == "gaussian" else stage.scale
    step = stage.sigma_step if kind == "gaussian" else stage.scale_step
    values = {
        "kind": kind,
        "level": float(rng.uniform(*limits)),
        "gray": bool(rng.random() < stage.gray),
    }
    return values, {"level": (limits, step)}


def _motion(stage: Motion, rng: np.random.Generator) -> dict[str, Any]:
    """Terms (amplitude, cycles a frame, phase) of the four paths of a `CameraPath`."""

    def wave(limits: Range, frequency: Range, terms: int) -> list[tuple[float, float, float]]:
        shares = rng.dirichlet(np.ones(terms))
        return [
            (float(a), float(rng.uniform(*frequency)), float(rng.uniform(0, 2 * math.pi)))
            for a in rng.uniform(*limits) * shares
        ]

    def shift() -> list[tuple[float, float, float]]:
        shake = wave(stage.shake, stage.shake_frequency, stage.terms)
        return shake + wave(stage.pan, stage.pan_frequency, 1)

    turn = math.radians(stage.rotation[0]), math.radians(stage.rotation[1])
    zoom = math.log2(1 + stage.zoom[0]), math.log2(1 + stage.zoom[1])
    return {
        "right": shift(),
        "down": shift(),
        "angle": wave(turn, stage.rotation_frequency, stage.terms),
        "zoom": wave(zoom, stage.zoom_frequency, 1),
    }


def _choice(weights: Weights, rng: np.random.Generator) -> str:
    numbers = np.array(list(weights.values()), float)
    return list(weights)[int(rng.choice(len(numbers), p=numbers / numbers.sum()))]
