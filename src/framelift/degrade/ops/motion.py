"""Synthetic camera motion: shake, pan, rotation and zoom along smooth paths."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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


@dataclass(frozen=True)
class CameraPath:
    """A pose for every frame. `zoom` is the wave of log₂ of the zoom."""

    right: Wave = Wave()
    down: Wave = Wave()
    angle: Wave = Wave()
    zoom: Wave = Wave()

    def pose(self, frame: int, size: tuple[int, int]) -> Pose:
        """The pose at a frame, zoomed in just enough that no border of `size` (H, W) ever shows."""
        zoom = self._cover(size) * 2 ** (self.zoom(frame) + self.zoom.reach)
        return Pose(self.right(frame), self.down(frame), self.angle(frame), zoom)

    def _cover(self, size: tuple[int, int]) -> float:
        """The zoom at which a window turned and shifted to the waves' bounds stays inside."""
        height, width = size
        turn = min(self.angle.reach, math.pi / 4)
        aspect = width / height
        rows = math.cos(turn) + aspect * math.sin(turn)
        columns = math.cos(turn) + math.sin(turn) / aspect
        return max(
            rows / max(0.1, 1 - 2 * self.down.reach),
            columns / max(0.1, 1 - 2 * self.right.reach / aspect),
        )


def move_camera(x: Tensor, pose: Pose) -> Tensor:
    """Frames `x` `[T, C, H, W]` as seen from a pose (bicubic, reflected borders)."""
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
