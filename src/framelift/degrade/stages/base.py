"""What every stage shares: checked fields, parameters drawn for a clip, drift by frame.

A range (low, high) is drawn from uniformly, once for each clip. A `*_step` lets the parameter
drift: after every frame it moves by a uniform draw from (-step, step), staying in its range, as
RealBasicVSR (Chan et al., 2022) does. A table of weights, such as {iso = 0.7, sinc = 0.3}, is a
choice. Imports no torch: what needs it, imports it when frames are there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Range = tuple[float, float]
Weights = dict[str, float]
Parameters = tuple[dict[str, Any], dict[str, tuple[Range, float]]]
Frames = Iterator[tuple[int, "Tensor"]]
"""(index, frame `[1, 3, H, W]`), one by one."""

PARAMETERS, FRAMES = 0, 1  # two generators for each stage: drawn once, and drawn frame by frame


@dataclass(frozen=True)
class Sizes:
    """Sizes (height, width) of the clip's high-resolution frames and of the result."""

    high: tuple[int, int]
    low: tuple[int, int]
    scale: int


class Stage:
    """A degradation. Subclasses are frozen dataclasses of its fields, in a file each."""

    @property
    def op(self) -> str:
        """The name in recipes."""
        return type(self).__name__.lower()

    @property
    def places(self) -> int:
        """How many positions of the recipe it takes, nested stages included."""
        return 1

    def draw(self, rng: np.random.Generator, scale: int) -> Parameters:
        """Parameters of a clip, and the range and step of those that may drift."""
        return {}, {}

    def apply(self, drawn: "Drawn", frames: Frames, sizes: Sizes) -> Frames:
        """Pass a stream through. Only a codec holds frames back (its delay, about 50)."""
        raise TypeError(f"{type(self).__name__} degrades nothing")

    def draw_for(self, key: tuple[int, ...], place: int, scale: int) -> "list[Drawn]":
        """This stage with its parameters; empty where its probability leaves the clip alone."""
        rng = np.random.default_rng([*key, place, PARAMETERS])
        if rng.random() >= getattr(self, "probability", 1.0):
            return []
        values, drift = self.draw(rng, scale)
        moving = {name: limits for name, limits in drift.items() if limits[1] > 0}
        return [Drawn(self, values, moving, (*key, place))]


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

    def drifting(self, frames: Frames) -> "Iterator[tuple[int, Tensor, dict[str, Any]]]":
        """Frames with the parameters of each."""
        values, rng = self.values, self.rng()
        for index, x in frames:
            yield index, x, values
            values = self.drifted(values, rng)

    def apply(self, frames: Frames, sizes: Sizes) -> Frames:
        """Pass a stream through the stage."""
        return self.stage.apply(self, frames, sizes)

    def describe(self) -> dict[str, Any]:
        """Name and parameters, for records."""
        return {"op": self.stage.op, **self.values}


def draw_all(stages: Sequence[Stage], key: tuple[int, ...], place: int, scale: int) -> list[Drawn]:
    """Draw stages that follow each other; `place` is the position of the first in the recipe.

    A stage's generator is seeded by `key` and its place, so that a changed stage leaves the draws
    of the others alone.
    """
    drawn: list[Drawn] = []
    for stage in stages:
        drawn += stage.draw_for(key, place, scale)
        place += stage.places
    return drawn


def choose(weights: Weights, rng: np.random.Generator) -> str:
    """A name, as often as its weight says."""
    numbers = np.array(list(weights.values()), float)
    return list(weights)[int(rng.choice(len(numbers), p=numbers / numbers.sum()))]


def check_weights(stage: Stage, **known: Sequence[str]) -> None:
    """Raise ValueError unless these tables of weights name what is known, by numbers."""
    for name, names in known.items():
        weights = getattr(stage, name)
        unknown = weights.keys() - set(names)
        if unknown:
            raise ValueError(
                f"{name} names {', '.join(sorted(unknown))}; known are {', '.join(names)}"
            )
        numbers = [w for w in weights.values() if isinstance(w, int | float) and w >= 0]
        if len(numbers) != len(weights) or sum(numbers) <= 0:
            raise ValueError(f"{name} needs weights that are numbers above 0")


def check_sizes(name: str, *sizes: int) -> None:
    """Raise ValueError unless these are sizes of kernels."""
    if not sizes or any(size % 2 == 0 or not 1 <= size <= 255 for size in sizes):
        shown = ", ".join(map(str, sizes))
        raise ValueError(f"{name} is {shown}, but kernel sizes are odd numbers up to 255")


def check_ranges(stage: Stage, **limits: Range | None) -> None:
    """Raise ValueError unless these fields are ordered and, where given, inside their limits."""
    for name, limit in limits.items():
        value = getattr(stage, name)
        if value is None:
            continue
        low, high = value if isinstance(value, tuple) else (value, value)
        if not low <= high:
            raise ValueError(f"{name} is ({low:g}, {high:g}), but the low end comes first")
        if limit is not None and not (limit[0] <= low and high <= limit[1]):
            shown = f"({low:g}, {high:g})" if isinstance(value, tuple) else f"{value:g}"
            raise ValueError(f"{name} is {shown}, but must lie in {limit[0]:g} to {limit[1]:g}")
