"""Synthetic camera motion: shake, pan, rotation and zoom along smooth paths."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from framelift.degrade.stages.base import (
    Drawn,
    Frames,
    Parameters,
    Range,
    Sizes,
    Stage,
    check_ranges,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Motion(Stage):
    """Synthetic camera motion: sums of sinusoids, zoomed in so that no border shows."""

    shake: Range = (0.0, 0.01)
    """Largest shift by shaking along each axis, in frame heights."""
    shake_frequency: Range = (0.02, 0.12)
    """Cycles a frame."""
    pan: Range = (0.0, 0.04)
    """Largest shift by panning along each axis, in frame heights."""
    pan_frequency: Range = (0.002, 0.01)
    """Cycles a frame."""
    rotation: Range = (0.0, 1.0)
    """Largest turn to either side in degrees."""
    rotation_frequency: Range = (0.01, 0.06)
    """Cycles a frame."""
    zoom: Range = (0.0, 0.1)
    """Largest zoom beyond the middle one: 0.1 means from 1/1.1 to 1.1 times it."""
    zoom_frequency: Range = (0.002, 0.02)
    """Cycles a frame."""
    terms: int = 3
    """Sinusoids in each path of shake and rotation."""

    def __post_init__(self) -> None:
        check_ranges(
            self, shake=(0, 0.2), pan=(0, 0.2), rotation=(0, 45), zoom=(0, 1), terms=(1, 64)
        )
        for name in ("shake", "pan", "rotation", "zoom"):
            check_ranges(self, **{f"{name}_frequency": (0, 0.5)})

    def draw(self, rng: np.random.Generator, scale: int) -> Parameters:
        """Terms (amplitude, cycles a frame, phase) of the four paths of a `CameraPath`."""

        def wave(limits: Range, frequency: Range, terms: int) -> list[tuple[float, float, float]]:
            shares = rng.dirichlet(np.ones(terms))
            return [
                (float(a), float(rng.uniform(*frequency)), float(rng.uniform(0, 2 * math.pi)))
                for a in rng.uniform(*limits) * shares
            ]

        def shift() -> list[tuple[float, float, float]]:
            shake = wave(self.shake, self.shake_frequency, self.terms)
            return shake + wave(self.pan, self.pan_frequency, 1)

        turn = math.radians(self.rotation[0]), math.radians(self.rotation[1])
        zoom = math.log2(1 + self.zoom[0]), math.log2(1 + self.zoom[1])
        return {
            "right": shift(),
            "down": shift(),
            "angle": wave(turn, self.rotation_frequency, self.terms),
            "zoom": wave(zoom, self.zoom_frequency, 1),
        }, {}

    def apply(self, drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
        path = CameraPath(**{name: Wave(tuple(terms)) for name, terms in drawn.values.items()})
        for index, x in frames:
            yield index, move_camera(x, path.pose(index, (x.shape[-2], x.shape[-1])))


@dataclass(frozen=True)
class Pose:
    """Where a camera looks: shifts in frame heights, `angle` in radians, `zoom` above 1 is nearer.

    Positive `right`, `down` move the camera, so the picture moves the other way; a positive angle
    turns the picture clockwise.
    """

    right: float = 0.0
    down: float = 0.0
    angle: float = 0.0
    zoom: float = 1.0


@dataclass(frozen=True)
class Wave:
    """Sum of sinusoids of time: (amplitude, cycles a frame, phase in radians) each."""

    terms: tuple[tuple[float, float, float], ...] = ()

    def __call__(self, frame: int) -> float:
        return sum(a * math.sin(2 * math.pi * f * frame + p) for a, f, p in self.terms)

    @property
    def reach(self) -> float:
        """A bound of the absolute value."""
        return sum(abs(a) for a, _, _ in self.terms)


MOST_SHIFT = 0.45  # of a side


@dataclass(frozen=True)
class CameraPath:
    """A pose for every frame. `zoom` is the wave of log₂ of the zoom."""

    right: Wave = Wave()
    down: Wave = Wave()
    angle: Wave = Wave()
    zoom: Wave = Wave()

    def pose(self, frame: int, size: tuple[int, int]) -> Pose:
        """The pose at a frame, zoomed in just enough that no border of `size` (H, W) ever shows.

        Shifts beyond `MOST_SHIFT` of a side, which no zoom covers, are scaled down to it.
        """
        zoom = self._cover(size) * 2 ** (self.zoom(frame) + self.zoom.reach)
        right = self.right(frame) * _held(self.right.reach, size[1] / size[0])
        down = self.down(frame) * _held(self.down.reach, 1.0)
        return Pose(right, down, self.angle(frame), zoom)

    def _cover(self, size: tuple[int, int]) -> float:
        """The zoom at which a window turned and shifted to the waves' bounds stays inside."""
        height, width = size
        turn = min(self.angle.reach, math.pi / 4)
        aspect = width / height
        rows = math.cos(turn) + aspect * math.sin(turn)
        columns = math.cos(turn) + math.sin(turn) / aspect
        return max(
            rows / (1 - 2 * min(MOST_SHIFT, self.down.reach)),
            columns / (1 - 2 * min(MOST_SHIFT, self.right.reach / aspect)),
        )


def _held(reach: float, side: float) -> float:
    """The factor that keeps a wave of this reach within `MOST_SHIFT` of a side."""
    return min(1.0, MOST_SHIFT * side / reach) if reach else 1.0


def move_camera(x: "Tensor", pose: Pose) -> "Tensor":
    """Frames `x` `[T, C, H, W]` as seen from a pose (bicubic, reflected borders)."""
    import torch
    import torch.nn.functional as F

    height, width = x.shape[-2:]
    cos, sin = math.cos(pose.angle) / pose.zoom, math.sin(pose.angle) / pose.zoom
    aspect = width / height  # the grid runs from -1 to 1 on both axes
    matrix = [
        [cos, sin / aspect, 2 * pose.right / aspect],
        [-sin * aspect, cos, 2 * pose.down],
    ]
    theta = torch.tensor(matrix, dtype=torch.float64).to(x).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, "bicubic", "reflection", align_corners=False)
