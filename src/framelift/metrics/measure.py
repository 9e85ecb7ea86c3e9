"""Measuring a clip: one pass over all methods in lockstep, two frames of each alive."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from framelift.errors import InputError
from framelift.metrics.base import Frame, Metric, Sample


@dataclass(frozen=True)
class Measurement:
    """Values per frame; None where a metric has none."""

    values: dict[str, dict[str, list[float | None]]]
    """`values[method][metric]`, one entry per frame."""
    truth: dict[str, list[float | None]]
    """`truth[metric]`: the ground truth's own, of metrics that have it; no keys without one."""
    protocols: dict[str, dict[str, str | int | float | bool]]
    """`protocols[metric]`: all that decides its numbers."""


class _Stream:
    """Frames of one source, in order, each knowing its predecessor."""

    def __init__(self, title: str, frames: Iterable[Tensor]) -> None:
        self.title = title
        self._frames = iter(frames)
        self._frame: Frame | None = None

    @property
    def frame(self) -> Frame:
        assert self._frame is not None
        return self._frame

    def advance(self) -> bool:
        """Step to the next frame; False at the end."""
        rgb = next(self._frames, None)
        if rgb is None:
            return False
        if self._frame is not None:
            self._frame.previous = None
        self._frame = Frame(rgb, self._frame)
        return True


@torch.inference_mode()
def measure_clip(
    metrics: Sequence[Metric],
    results: Mapping[str, Iterable[Tensor]],
    gt: Iterable[Tensor] | None = None,
    lr: Iterable[Tensor] | None = None,
    measured: Collection[int] | None = None,
) -> Measurement:
    """Measure the results of several methods on one clip.

    Each iterable yields frames `[3, H, W]` in [0, 1] and is read once, all at the same pace.
    `measured` are the indices of the frames that count (default: all); others get None, but serve
    as predecessors. A metric whose `needs` are not there gets None throughout. Raises InputError if
    streams differ in length, or results and ground truth in size.
    """
    methods = {name: _Stream(f"The result of {name}", frames) for name, frames in results.items()}
    sides = {
        side: _Stream(title, frames)
        for side, title, frames in (("gt", "The ground truth", gt), ("lr", "The input", lr))
        if frames is not None
    }
    values = {name: {m.name: list[float | None]() for m in metrics} for name in methods}
    truth = {m.name: list[float | None]() for m in metrics if m.has_truth_value and "gt" in sides}
    number = 0
    for index in _lockstep([*methods.values(), *sides.values()]):
        counts = measured is None or index in measured
        beside = {side: stream.frame for side, stream in sides.items()}
        for name, stream in methods.items():
            _check_size(stream, sides.get("gt"), index)
            sample = Sample(stream.frame, **beside, number=number)
            for metric in metrics:
                value = _value(metric, sample) if counts else None
                values[name][metric.name].append(value)
            stream.frame.trim()
        for metric in metrics:
            if metric.name in truth:
                sample = Sample(beside["gt"], **beside, number=number)
                truth[metric.name].append(_value(metric, sample) if counts else None)
        for frame in beside.values():
            frame.trim()
        number += counts
    return Measurement(values, truth, {m.name: m.protocol for m in metrics})


def _lockstep(streams: Sequence[_Stream]) -> Iterator[int]:
    """Advance all streams together, yielding the index of their frames."""
    for index in count():
        more = [stream.advance() for stream in streams]
        if all(more) and more:
            yield index
            continue
        if any(more):
            ended = next(s.title for s, goes_on in zip(streams, more, strict=True) if not goes_on)
            longer = next(s.title for s, goes_on in zip(streams, more, strict=True) if goes_on)
            raise InputError(
                f"{ended} ends after {index} frames, {longer[0].lower()}{longer[1:]} does not.",
                "Compare clips of equal length.",
            )
        return


def _check_size(stream: _Stream, gt: _Stream | None, index: int) -> None:
    if gt is not None and stream.frame.rgb.shape != gt.frame.rgb.shape:
        ours, truth = (f"{s.frame.rgb.shape[2]}×{s.frame.rgb.shape[1]}" for s in (stream, gt))
        raise InputError(
            f"{stream.title} is {ours} at frame {index}, the ground truth {truth}.",
            "They must have the same size.",
        )


def _value(metric: Metric, sample: Sample) -> float | None:
    if any(getattr(sample, side) is None for side in metric.needs):
        return None
    return metric(sample)
