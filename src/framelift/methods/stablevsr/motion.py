"""Motion between neighbouring frames, each pair estimated once in each direction."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from framelift.flow import FlowEstimator
from framelift.ops.warp import resize_flow


class Motion:
    """ME of equation 7 on the frames `lr` of a clip, whose HR is `scale` times larger.

    Each is `[B, 3, h, w]` in [-1, 1]; B clips are estimated together.
    The paper and this class estimate on the LR frames and scale the flow; `enlarged` estimates on
    their bicubic enlargement, as the released code does.
    """

    def __init__(
        self,
        lr: Sequence[Tensor],
        estimator: FlowEstimator,
        scale: int,
        enlarged: bool = False,
    ) -> None:
        self._lr, self._estimator, self._scale, self._enlarged = lr, estimator, scale, enlarged
        self._known: dict[tuple[int, int], Tensor] = {}

    def flow(self, frame: int, neighbour: int) -> Tensor:
        """Flow `[B, 2, h, w]` (enlarged: `[B, 2, H, W]`) on the grid of `frame` to `neighbour`."""
        if (frame, neighbour) not in self._known:
            pair = (self._lr[i] for i in (frame, neighbour))
            pair = [self._enlarge(x) if self._enlarged else x for x in pair]
            self._known[frame, neighbour] = self._estimator(*((x + 1) / 2 for x in pair))
        return self._known[frame, neighbour]

    def _enlarge(self, x: Tensor) -> Tensor:
        """torch's bicubic (a = -0.75), not MATLAB's: the released code's choice."""
        return F.interpolate(x, scale_factor=self._scale, mode="bicubic")


def fit_flow(flow: Tensor, picture: Tensor) -> Tensor:
    """`flow` brought to the size of what it is to warp, displacements scaled along."""
    height, width = picture.shape[-2:]
    return resize_flow(flow, (height, width)).to(picture.device)
