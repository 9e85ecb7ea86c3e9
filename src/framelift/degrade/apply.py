"""Drawn stages applied to streams of frames: each takes and gives (index, frame `[1, 3, H, W]`)."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from framelift.degrade.ops import kernels
from framelift.degrade.ops.filters import blur, stride, unsharp
from framelift.degrade.ops.motion import CameraPath, Wave, move_camera
from framelift.degrade.ops.noise import gaussian_noise, poisson_noise
from framelift.degrade.ops.observation import Observation
from framelift.degrade.ops.quantize import from_bytes, jpeg, straight_through, to_bytes
from framelift.degrade.ops.scaling import rescale
from framelift.degrade.sampler import Drawn
from framelift.degrade.stages import (
    Blur,
    Codec,
    Jpeg,
    Motion,
    Noise,
    Observe,
    Resize,
    Stage,
    Stride,
    Unsharp,
)
from framelift.video.reencode import reencode

Frames = Iterator[tuple[int, Tensor]]


@dataclass(frozen=True)
class Sizes:
    """Sizes (height, width) of the clip's high-resolution frames and of the result."""

    high: tuple[int, int]
    low: tuple[int, int]
    scale: int


def apply(drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
    """Pass a stream through a stage. Only a codec holds frames back (its delay, about 50)."""
    return _STREAMS[type(drawn.stage)](drawn, frames, sizes)


def _blur(drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
    kernel = _kernel(drawn.values)
    for index, x, values in _drifting(drawn, frames):
        kernel = _kernel(values) if drawn.drift else kernel
        yield index, blur(x, kernel)


def _drifting(drawn: Drawn, frames: Frames) -> Iterator[tuple[int, Tensor, dict[str, Any]]]:
    """Frames with the parameters of each."""
    values, rng = drawn.values, drawn.rng()
    for index, x in frames:
        yield index, x, values
        values = drawn.drifted(values, rng)


def _kernel(values: dict[str, Any]) -> Tensor:
    size, sigmas = values["size"], (values.get("sigma_x", 0), values.get("sigma_y"))
    match values["kernel"].split("_")[0]:
        case "sinc":
            return kernels.sinc(size, values["cutoff"])
        case "generalized":
            return kernels.generalized_gaussian(
                size, values["beta"], *sigmas, values.get("angle", 0.0)
            )
        case "plateau":
            return kernels.plateau(size, values["beta"], *sigmas, values.get("angle", 0.0))
    return kernels.gaussian(size, *sigmas, values.get("angle", 0.0))


def _resize(drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
    stage = drawn.stage
    assert isinstance(stage, Resize)
    for index, x, values in _drifting(drawn, frames):
        base = sizes.low if stage.relative_to == "output" else tuple(x.shape[-2:])
        factor, grid = values["factor"], 2 if stage.even else 1
        height, width = (max(grid, int(side * factor) // grid * grid) for side in base)
        yield index, rescale(x, (height, width), values["filter"])


def _stride(drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
    return ((index, stride(x, sizes.scale)) for index, x in frames)


def _noise(drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
    values, rng = drawn.values, drawn.rng()
    for index, x in frames:
        if values["kind"] == "gaussian":
            yield index, gaussian_noise(x, values["level"] / 255, rng, values["gray"])
        else:
            yield index, poisson_noise(x, values["level"], rng, values["gray"])
        values = drawn.drifted(values, rng)


def _jpeg(drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
    return (
        (index, jpeg(x, round(values["quality"]))) for index, x, values in _drifting(drawn, frames)
    )


def _codec(drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
    stage, values = drawn.stage, drawn.values
    assert isinstance(stage, Codec)
    held: deque[tuple[int, Tensor]] = deque()
    size: list[tuple[int, int]] = []

    def feed() -> Iterator[np.ndarray]:
        for index, x in frames:
            size[:] = size or [(x.shape[-2], x.shape[-1])]
            x = rescale(x, size[0], "bilinear")  # a drifting factor changes sizes by frame
            held.append((index, x if x.requires_grad else x[:0]))
            yield to_bytes(x[0])

    share = sizes.high[0] * sizes.high[1] / stage.pixels if stage.pixels else 1.0
    bits = values["bit_rate"] * share if "bit_rate" in values else None
    for rgb in reencode(
        feed(), values["codec"], bit_rate=bits, crf=values.get("crf"), rate=stage.rate
    ):
        index, x = held.popleft()
        yield index, straight_through(from_bytes(rgb, x)[None], x)
    assert not held, f"{values['codec']} lost {len(held)} frames"


def _unsharp(drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
    stage = drawn.stage
    assert isinstance(stage, Unsharp)
    return ((index, unsharp(x, stage.weight, stage.threshold, stage.size)) for index, x in frames)


def _observe(drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
    stage, rng = drawn.stage, drawn.rng()
    assert isinstance(stage, Observe)
    operator = Observation(sizes.scale, stage.sigma_h, decimation=stage.decimation)
    for index, x in frames:
        if not stage.keep or index in stage.keep:
            yield index, operator.observe(x, stage.noise / 2, rng)  # [-1, 1] is 2 wide


def _motion(drawn: Drawn, frames: Frames, sizes: Sizes) -> Frames:
    path = CameraPath(**{name: Wave(tuple(terms)) for name, terms in drawn.values.items()})
    for index, x in frames:
        yield index, move_camera(x, path.pose(index, (x.shape[-2], x.shape[-1])))


_STREAMS: dict[type[Stage], Callable[[Drawn, Frames, Sizes], Frames]] = {
    Blur: _blur,
    Resize: _resize,
    Stride: _stride,
    Noise: _noise,
    Jpeg: _jpeg,
    Codec: _codec,
    Unsharp: _unsharp,
    Observe: _observe,
    Motion: _motion,
}
