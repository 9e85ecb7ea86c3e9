"""What an experiment of VDM-VSR varies, and how much of it is computed. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from framelift.config import from_mapping, from_strings
from framelift.errors import UsageError
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.papers.items import Item
from framelift.weights.presets import suggest

Order = Literal["sequential", "random", "random-first"]


@dataclass(frozen=True)
class Experiment:
    """Section IV, in numbers. Everything is crossed with everything else."""

    references: int = 1
    """The first so many clips of the data."""
    seeds: int = 1
    """Restorations of every reference; both the sampler's and the sensor's noise change."""
    counts: tuple[int, ...] = ()
    """Numbers of observed frames; none: all frames are observed."""
    orders: tuple[Order, ...] = ("sequential",)
    """Which frames are observed first: those in front, those of a random permutation (one for every
    reference), or frame 1 and then those of the permutation."""
    scales: tuple[int, ...] = (8,)
    """Factors of the decimation."""
    sigmas: tuple[float, ...] = (0.0,)
    """Deviations σ_h of the blur, in HR pixels."""
    step_sizes: dict[str, float] = field(default_factory=dict)
    """ζ by factor, since it depends on the number of steps (default: the preset's, which are meant
    for its own number). The method's own `step_size` goes before it."""
    sensor_noise: float = 0.01
    """Deviation of the noise E, where pixels span [-1, 1]."""
    observe: Literal["truth", "reconstruction"] = "truth"
    """What is observed: the true video, or, as in the authors' code, what the autoencoder makes of
    it. Results are compared with the true video in both cases."""
    regression: str = "none"
    """The regression network to compare with: a bundled one, the pipeline folder of a run, none."""
    shown: tuple[int, ...] = ()
    """Frames on a picture, from 1; none: all."""
    batch: int = 16
    """Clips that are sampled together."""

    def __post_init__(self) -> None:
        for name in ("references", "seeds", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}.", "It must be at least 1.")
        for name in ("counts", "scales", "shown"):
            if any(value < 1 for value in getattr(self, name)):
                raise UsageError(f"{name} is {getattr(self, name)}.", "They start at 1.")


def read_setup(item: Item, full: bool, options: Sequence[str]) -> tuple[Experiment, VDMVSRSettings]:
    """An item's experiment and sampler, with deviations given as name=value words.

    An item's full setup names everything that may be changed, beside the settings of the method;
    values of a list are separated by commas, as in counts=1,2,5.
    """
    content = dict(item.full.setup)
    if not full:
        content |= item.reduced.setup
    ours, theirs = {f.name for f in fields(Experiment)}, {f.name for f in fields(VDMVSRSettings)}
    theirs -= {"downscale", "blur_sigma"}  # the experiment's scales and sigmas
    for word in options:
        name = word.partition("=")[0].strip().replace("-", "_")
        if name not in theirs and name not in item.full.setup:
            known = sorted(theirs | set(item.full.setup))
            raise UsageError(f"{item.name} has no option {name!r}.", suggest(name, known))
        content |= _read_option(word, name) if name in ours else _read_setting(word)
    sampler = {key: value for key, value in content.items() if key in theirs}
    rest = {key: value for key, value in content.items() if key not in theirs}
    return (
        from_mapping(Experiment, rest, f"{item.name}, --options"),
        from_mapping(VDMVSRSettings, sampler, f"{item.name}, --options"),
    )


def _read_setting(word: str) -> dict[str, Any]:
    return from_strings(VDMVSRSettings, [word], "--options")


def _read_option(word: str, name: str) -> dict[str, Any]:
    if not isinstance(getattr(Experiment(), name), tuple):
        return from_strings(Experiment, [word], "--options")
    _, equals, text = word.partition("=")
    parts = [part for part in text.split(",") if part.strip()]
    if not equals or not parts:
        raise UsageError(f"--options {word!r} has no value.", "Write it as name=value,value.")
    read = [from_strings(Experiment, [f"{name}={part}"], "--options")[name] for part in parts]
    return {name: tuple(read)}


def observed(order: Order, count: int, frames: int, seed: Sequence[int]) -> tuple[int, ...]:
    """The `count` frames of `frames` that an order begins with, sorted; `seed` is of its draw."""
    if order == "sequential":
        return tuple(range(count))
    drawn = np.random.default_rng(list(seed)).permutation(frames).tolist()
    if order == "random-first":
        drawn = [0, *(i for i in drawn if i != 0)]
    return tuple(sorted(drawn[:count]))
