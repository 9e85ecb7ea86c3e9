"""What a metric sees and what it returns.

A clip is measured in one pass, a `Sample` at a time. A `Frame` keeps what was derived from it
(8-bit picture, luma, flow from its predecessor, network features), so that several metrics, and
several methods measured against the same ground truth, never compute it twice; only the current
and the previous frame are alive.
"""

from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")

Better = Literal["higher", "lower", "reference"]
"""Which way is better; "reference": the closer to the ground truth's own value."""


class Frame:
    """A picture `rgb` `[3, H, W]` in [0, 1], the one before it, and what follows from both."""

    def __init__(self, rgb: Tensor, previous: "Frame | None" = None) -> None:
        self.rgb = rgb
        self.previous = previous
        self._derived: dict[Hashable, Any] = {}
        self._kept: set[Hashable] = set()

    def derive(self, key: Hashable, compute: Callable[[], T], *, keep: bool = False) -> T:
        """`compute()`, once per key. `keep` holds it while the next frame is measured, too."""
        if keep:
            self._kept.add(key)
        if key not in self._derived:
            self._derived[key] = compute()
        return self._derived[key]

    def trim(self) -> None:
        """Let go of what is not to be kept: all metrics have seen this frame."""
        self._derived = {key: self._derived[key] for key in self._kept if key in self._derived}


class Sample(NamedTuple):
    """A result frame and, where there are any, its ground truth and its low-resolution input.

    `sr` and `gt` have equal sizes. `number` counts the frames whose values count, from 0.
    """

    sr: Frame
    gt: Frame | None = None
    lr: Frame | None = None
    number: int = 0


class Metric(Protocol):
    """A number per frame.

    `needs` names what a sample must hold beside `sr`: "gt", "lr". `protocol` says everything that
    decides the number (colour space, border, network, flow, mask, factor), ready for a record.
    `has_truth_value` says that the ground truth has a value, which is that of a sample whose
    `sr` is the ground truth.
    """

    name: str
    better: Better
    needs: frozenset[str]
    has_truth_value: bool
    protocol: dict[str, str | int | float | bool]

    def __call__(self, sample: Sample) -> float | None:
        """The value of one frame; None where it has none (no predecessor, too small a frame)."""
        ...
