"""What an optical flow estimator is."""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class FlowEstimator(Protocol):
    """Estimates where pixels move. No gradient passes through an estimate.

    `name` is the one it was built by; `protocol` says what decides its numbers.
    """

    name: str
    protocol: dict[str, str | int]

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Flow `[T, 2, H, W]` (dx, dy in pixels, float32) on the grid of `a`: a(p) ≈ b(p + flow).

        `a` and `b` are frames `[T, 3, H, W]` of any size, RGB in [0, 1]; RAFT takes
        what lies a little beyond as it is, DIS clamps it.
        The result lies on the device of `a`.
        """
        ...


def pad_to(frames: Tensor, multiple: int, minimum: int) -> Tensor:
    """Repeat the bottom and right borders of `[T, C, H, W]` up to a size an estimator accepts."""
    height, width = frames.shape[-2:]
    bottom, right = (max(minimum - side, -side % multiple) for side in (height, width))
    if not bottom and not right:
        return frames
    return F.pad(frames, (0, right, 0, bottom), mode="replicate")
