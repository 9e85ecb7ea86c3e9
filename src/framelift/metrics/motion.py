"""Metrics of time: warping error, tOF, change of a still shot. Flows are estimated once."""

import torch
from torch import Tensor

from framelift.flow import FlowEstimator
from framelift.metrics.base import Better, Frame, Sample
from framelift.metrics.pictures import picture
from framelift.metrics.settings import MetricSettings
from framelift.ops.warp import resize_flow, visible, warp

FACTOR = 1000


class Flows:
    """Flows between a frame and its predecessor, each estimated once per pair."""

    def __init__(self, settings: MetricSettings, estimator: FlowEstimator) -> None:
        self.settings, self.estimator = settings, estimator

    def forward(self, frame: Frame) -> Tensor:
        """On the predecessor's grid, towards `frame`: `[1, 2, H, W]`."""
        return frame.derive("forward", lambda: self._estimate(frame.previous, frame))

    def backward(self, frame: Frame) -> Tensor:
        """On the grid of `frame`, towards its predecessor: `[1, 2, H, W]`."""
        return frame.derive("backward", lambda: self._estimate(frame, frame.previous))

    def _estimate(self, a: Frame | None, b: Frame | None) -> Tensor:
        assert a is not None
        assert b is not None
        return self.estimator(picture(a, self.settings), picture(b, self.settings))


class WarpingError:
    """Squared difference between a frame and its neighbour warped onto it, in units of 10⁻³.

    Lai et al. (2018): E = Σ M |V_t − warp(V_t+1)|² / ΣM, frames in [0, 1], the flow t → t+1 and
    the visible pixels M by `ops.warp`; as in their code, ΣM counts three values a pixel. With
    which frames' flow, in which direction and divided by what: see `MetricSettings`. A clip of
    still or blurred frames has a low error: it means something only beside the ground truth's own.
    """

    name = "we"
    better: Better = "reference"
    has_truth_value = True

    def __init__(self, settings: MetricSettings, flows: Flows) -> None:
        self.settings, self.flows = settings, flows
        self.needs = frozenset({settings.we_flow} & {"gt", "lr"})
        self.protocol: dict[str, str | int | float | bool] = {
            "color": "RGB in [0, 1]",
            "rounding": "8 bits" if settings.bits8 else "none",
            "flow_of": settings.we_flow,
            "mask": settings.we_mask,
            "warps": settings.we_warps,
            "divisor": settings.we_divisor,
            "warp": "half-pixel" if settings.we_half_pixel else "exact",
            "factor": FACTOR,
            **flows.estimator.protocol,
        }

    def __call__(self, sample: Sample) -> float | None:
        before = sample.sr.previous
        if before is None:
            return None
        frames = picture(sample.sr, self.settings), picture(before, self.settings)
        neighbour, target = frames if self.settings.we_warps == "next" else frames[::-1]
        source = {"gt": sample.gt, "lr": sample.lr, "output": sample.sr}[self.settings.we_flow]
        assert source is not None
        flow, mask = self._guide(source, (target.shape[-2], target.shape[-1]))
        warped = warp(neighbour, flow, half_pixel=self.settings.we_half_pixel)
        weight = float(mask.sum()) * (3 if self.settings.we_divisor == "values" else 1)
        if not weight:
            return None
        error = (target - warped).square().sum(dim=1, keepdim=True)
        return float((error * mask).sum(dtype=torch.float64)) / weight * FACTOR

    def _guide(self, source: Frame, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The flow from the target to its neighbour, and the pixels that count."""

        def compute() -> tuple[Tensor, Tensor]:
            to, back = self.flows.forward, self.flows.backward
            if self.settings.we_warps == "previous":
                to, back = back, to
            flow = resize_flow(to(source), size)
            if not self.settings.we_mask:
                return flow, torch.ones_like(flow[:, :1])
            return flow, visible(flow, resize_flow(back(source), size)).float()

        return source.derive(("guide", size), compute)


class TOF:
    """Mean |flow of the result − flow of the ground truth| × 10, each frame to its predecessor.

    Chu et al. (2020), in the form of StableVSR's evaluation.
    """

    name = "tof"
    better: Better = "lower"
    needs = frozenset({"gt"})
    has_truth_value = False

    def __init__(self, settings: MetricSettings, flows: Flows) -> None:
        self.settings, self.flows = settings, flows
        self.protocol: dict[str, str | int | float | bool] = {
            "rounding": "8 bits" if settings.bits8 else "none",
            "factor": 10,
            **flows.estimator.protocol,
        }

    def __call__(self, sample: Sample) -> float | None:
        assert sample.gt is not None
        if sample.sr.previous is None:
            return None
        difference = self.flows.backward(sample.sr) - self.flows.backward(sample.gt)
        return float(difference.abs().mean(dtype=torch.float64)) * 10


class StillChange:
    """RMS change from frame to frame in levels of 8 bits, where the input does not change at all.

    None where the low-resolution frame differs from its predecessor: elsewhere change is motion.
    """

    name = "still"
    better: Better = "lower"
    needs = frozenset({"lr"})
    has_truth_value = False

    def __init__(self, settings: MetricSettings) -> None:
        self.settings = settings
        self.protocol: dict[str, str | int | float | bool] = {
            "color": "RGB",
            "rounding": "8 bits" if settings.bits8 else "none",
        }

    def __call__(self, sample: Sample) -> float | None:
        assert sample.lr is not None
        before, input_before = sample.sr.previous, sample.lr.previous
        if before is None or input_before is None:
            return None
        if not torch.equal(picture(sample.lr, self.settings), picture(input_before, self.settings)):
            return None
        change = picture(sample.sr, self.settings) - picture(before, self.settings)
        return float(change.square().mean(dtype=torch.float64).sqrt()) * 255
