"""What is observed of a clip, and how (section II-B)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Operator = Callable[[Tensor], Tensor]
"""H: HR frames `[n, 3, H, W]` → what is observed of them, in any shape; differentiable."""


@dataclass(frozen=True)
class Measurement:
    """Y of one clip, and how it came about: Y = M(H(X)) + E (eq. 15), all in [-1, 1].

    M keeps the frames with the indices `kept` (None: all); H sees these alone.
    """

    y: Tensor
    operator: Operator
    kept: tuple[int, ...] | None = None
