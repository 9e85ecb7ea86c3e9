"""The stages that recipes are made of, and the ranges of their parameters. Imports no torch.

A range (low, high) is drawn from uniformly, once for each clip. A `*_step` lets the parameter
drift: after every frame it moves by a uniform draw from (-step, step), staying in its range, as
RealBasicVSR (Chan et al., 2022) does. A table of weights, such as {iso = 0.7, sinc = 0.3}, is a
choice.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Range = tuple[float, float]
Weights = dict[str, float]

Kernel = Literal[
    "iso",
    "aniso",
    "generalized_iso",
    "generalized_aniso",
    "plateau_iso",
    "plateau_aniso",
    "sinc",
]
FILTERS = ("area", "bilinear", "bicubic", "matlab")
CODECS = ("h264", "hevc", "mpeg4")


@dataclass(frozen=True)
class Blur:
    """Convolution with a random kernel, reflected at the borders."""

    probability: float = 1.0
    """How many clips are blurred at all."""
    kernels: Weights = field(default_factory=lambda: {"iso": 1.0})
    """Weights of iso, aniso, generalized_iso, generalized_aniso, plateau_iso, plateau_aniso and
    sinc."""
    sizes: tuple[int, ...] = (21,)
    """Kernel sizes to choose from, odd and at most 255."""
    sigma: Range = (0.2, 3.0)
    """Standard deviation along each axis, in `sigma_unit`."""
    sigma_step: float = 0.0
    """Drift of sigma by frame."""
    sigma_unit: Literal["pixel", "scale"] = "pixel"
    """Unit of sigma: pixels, or multiples of the scale (BD: 0.4 × scale)."""
    angle: Range = (-math.pi, math.pi)
    """Rotation of anisotropic kernels in radians."""
    angle_step: float = 0.0
    """Drift of the angle by frame."""
    beta_gaussian: Range = (0.5, 4.0)
    """Shape of generalised Gaussians; half of the draws fall below 1, half above."""
    beta_gaussian_step: float = 0.0
    """Drift of that shape by frame."""
    beta_plateau: Range = (1.0, 2.0)
    """Shape of plateau kernels; half of the draws fall below 1 (or are 1), half above."""
    beta_plateau_step: float = 0.0
    """Drift of that shape by frame."""
    cutoff: Range | None = None
    """Cutoff of sinc kernels in radians a pixel (default: π/3 to π for sizes below 13, else π/5
    to π)."""
    cutoff_step: float = 0.0
    """Drift of the cutoff by frame."""

    def __post_init__(self) -> None:
        _check_weights(self, kernels=get_args(Kernel))
        _check_ranges(self, probability=(0, 1), sigma=(1e-3, 100), cutoff=(1e-3, math.pi))
        _check_ranges(self, beta_gaussian=(1e-3, 100), beta_plateau=(1e-3, 100), angle=None)
        _check_sizes("sizes", *self.sizes)


@dataclass(frozen=True)
class Resize:
    """Change of size by a random factor."""

    directions: Weights = field(default_factory=lambda: {"keep": 1.0})
    """Weights of up (factor from 1 to the high end), down (from the low end to 1) and keep."""
    factor: Range = (1.0, 1.0)
    """Range of the factor."""
    factor_step: float = 0.0
    """Drift of the factor by frame."""
    relative_to: Literal["current", "output"] = "current"
    """What the factor multiplies: the size at this stage, or that of the output."""
    filters: Weights = field(default_factory=lambda: {"bicubic": 1.0})
    """Weights of area, bilinear, bicubic (none antialiased) and matlab (antialiased bicubic)."""
    even: bool = False
    """Round both sides down to even numbers."""

    def __post_init__(self) -> None:
        _check_weights(self, directions=("up", "down", "keep"), filters=FILTERS)
        _check_ranges(self, factor=(1e-3, 16))


@dataclass(frozen=True)
class Stride:
    """Keep every n-th pixel, n being the scale; no antialiasing."""


@dataclass(frozen=True)
class Noise:
    """Sensor noise, new for every frame."""

    probability: float = 1.0
    """How many clips get noise at all."""
    kinds: Weights = field(default_factory=lambda: {"gaussian": 1.0})
    """Weights of gaussian and poisson."""
    sigma: Range = (1.0, 30.0)
    """Deviation of Gaussian noise in 8-bit levels."""
    sigma_step: float = 0.0
    """Drift of sigma by frame."""
    scale: Range = (0.05, 3.0)
    """Multiplier of Poisson noise."""
    scale_step: float = 0.0
    """Drift of the multiplier by frame."""
    gray: float = 0.4
    """How often the noise is the same in all three channels."""

    def __post_init__(self) -> None:
        _check_weights(self, kinds=("gaussian", "poisson"))
        _check_ranges(self, probability=(0, 1), sigma=(0, 255), scale=(0, 100), gray=(0, 1))


@dataclass(frozen=True)
class Jpeg:
    """Every frame saved as JPEG."""

    probability: float = 1.0
    """How many clips are compressed at all."""
    quality: Range = (30.0, 95.0)
    """JPEG quality, 1 to 100."""
    quality_step: float = 0.0
    """Drift of the quality by frame."""

    def __post_init__(self) -> None:
        _check_ranges(self, probability=(0, 1), quality=(1, 100))


@dataclass(frozen=True)
class Codec:
    """The clip encoded by a real video encoder, and decoded."""

    probability: float = 1.0
    """How many clips are compressed at all."""
    codecs: Weights = field(default_factory=lambda: {"h264": 1.0})
    """Weights of h264, hevc and mpeg4."""
    bit_rate: Range | None = None
    """Bits a second, for frames of `pixels`."""
    crf: Range | None = None
    """Constant-quality level instead (mpeg4: quantiser)."""
    rate: float = 1.0
    """Frames a second that the encoder is told; at 1 the bit rate is bits a frame."""
    pixels: int = 256 * 256
    """Size of the high-resolution frames that `bit_rate` is meant for; it grows in proportion for
    larger ones and shrinks for smaller ones. 0 takes it as it is."""

    def __post_init__(self) -> None:
        _check_weights(self, codecs=CODECS)
        _check_ranges(self, probability=(0, 1), bit_rate=(1, 1e12), crf=(0, 63), rate=(1e-3, 1000))
        if (self.bit_rate is None) == (self.crf is None):
            raise ValueError("a codec needs bit_rate or crf, and not both")


@dataclass(frozen=True)
class Unsharp:
    """Sharpening of the ground truth, as Real-ESRGAN and RealBasicVSR do before degrading it."""

    weight: float = 0.5
    """Multiplier of the residual."""
    threshold: float = 10.0
    """Residual in 8-bit levels below which nothing changes."""
    size: int = 51
    """Kernel size, odd and at most 255; its σ follows OpenCV's rule."""

    def __post_init__(self) -> None:
        _check_sizes("size", self.size)


@dataclass(frozen=True)
class Observe:
    """The observation model of VDM-VSR: blur, stride, frame mask, sensor noise."""

    sigma_h: float = 0.0
    """Deviation of the Gaussian blur in high-resolution pixels, 0 for none."""
    decimation: Literal["stride", "bicubic"] = "stride"
    """How pixels are dropped."""
    noise: float = 0.0
    """Deviation of the sensor noise for values in [-1, 1]."""
    keep: tuple[int, ...] = ()
    """Indices of the frames that are seen (default: all)."""

    def __post_init__(self) -> None:
        _check_ranges(self, sigma_h=(0, 1000), noise=(0, 2))


@dataclass(frozen=True)
class Motion:
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
        _check_ranges(
            self, shake=(0, 0.2), pan=(0, 0.2), rotation=(0, 45), zoom=(0, 1), terms=(1, 64)
        )
        for name in ("shake", "pan", "rotation", "zoom"):
            _check_ranges(self, **{f"{name}_frequency": (0, 0.5)})


@dataclass(frozen=True)
class Shuffle:
    """Two groups of stages in random order."""

    first: "tuple[Stage, ...]" = ()
    """The group that comes first unless they are swapped."""
    second: "tuple[Stage, ...]" = ()
    """The other group."""
    swap: float = 0.5
    """How often they change places."""

    def __post_init__(self) -> None:
        _check_ranges(self, swap=(0, 1))


Stage = Blur | Resize | Stride | Noise | Jpeg | Codec | Unsharp | Observe | Motion | Shuffle

STAGES: dict[str, type[Stage]] = {
    kind.__name__.lower(): kind
    for kind in (Blur, Resize, Stride, Noise, Jpeg, Codec, Unsharp, Observe, Motion, Shuffle)
}


def _check_weights(stage: object, **known: tuple[str, ...]) -> None:
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


def _check_sizes(name: str, *sizes: int) -> None:
    if not sizes or any(size % 2 == 0 or not 1 <= size <= 255 for size in sizes):
        shown = ", ".join(map(str, sizes))
        raise ValueError(f"{name} is {shown}, but kernel sizes are odd numbers up to 255")


def _check_ranges(stage: Any, **limits: tuple[float, float] | None) -> None:
    for name, limit in limits.items():
        value = getattr(stage, name)
        if value is None:
            continue
        low, high = value if isinstance(value, tuple) else (value, value)
        if low > high:
            raise ValueError(f"{name} is ({low:g}, {high:g}), but the low end comes first")
        if limit is not None and not (limit[0] <= low and high <= limit[1]):
            shown = f"({low:g}, {high:g})" if isinstance(value, tuple) else f"{value:g}"
            raise ValueError(f"{name} is {shown}, but must lie in {limit[0]:g} to {limit[1]:g}")
