"""The contract between a method and the engine."""

import inspect
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from framelift.methods.components import check_finite, component_class
from framelift.ops.windows import Window, sliding_windows
from framelift.types import Limits
from framelift.weights.index import LIMITS, read_index
from framelift.weights.presets import list_presets
from framelift.weights.schema import Component


class Noise(Protocol):
    """Standard normal noise as a function of position.

    `stream` names the use ("start", "step", "lr"), `frames` are the first T frames from the clip's
    origin, or a range of them, `size` is (c, h, w), `step` the sampling step. Returns float32
    `[T, c, h, w]`.
    """

    def __call__(
        self, stream: str, frames: int | range, size: tuple[int, int, int], step: int = 0
    ) -> Tensor: ...


@dataclass(frozen=True)
class Step:
    """What a pipeline reports after each sampling step; `done` is the share of the call."""

    index: int
    total: int
    timestep: int
    done: float
    residual: float | None = None


log = logging.getLogger(__name__)
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")

OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class ClipInfo:
    """What `plan` knows of a clip: its length, LR size and the first frame of every shot but 0.

    `watcher` is the pipeline's own, which has seen the whole video; the clip is its frames from
    `first` on.
    """

    frames: int
    height: int
    width: int
    cuts: tuple[int, ...] = ()
    first: int = 0
    watcher: "Watcher | None" = None


class Watcher(Protocol):
    """Sees the frames of a video once, in order, before windows are planned."""

    def __call__(self, frame: Tensor) -> None:
        """`frame` is `[3, h, w]`, float32 RGB in [0, 1]."""
        ...


class VSRPipeline(DiffusionPipeline):
    """Base of all methods.

    `__call__(frames, *, settings, noise, mask, on_step)` takes `[T, 3, h, w]` float32 RGB in
    [0, 1], both sides multiples of its limits' `size_multiple`, and returns
    `[T, 3, scale·h, scale·w]`, float32, clamped to [0, 1].
    """

    scale: int = 4
    limits: Limits = Limits()
    settings_class: type[Any] = object
    """The dataclass that `settings` is an instance of."""

    def watch(self, settings: Any) -> "Watcher | None":
        """What shall see every frame of the survey, so that `plan` may look at pixels."""
        return None

    def warnings(self, settings: Any) -> list[str]:
        """What a user should know before a run with these settings, in whole sentences."""
        return []

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> Any:
        """As diffusers' own; knows limits, and what folders of other projects leave out.

        Only components of the classes in `components` are loaded, and no code of the folder runs.
        """
        name = str(pretrained_model_name_or_path)
        hub = {k: kwargs[k] for k in _HUB_OPTIONS if k in kwargs}
        index: Any = cls.load_config(name, **hub)
        place = Component("", source=str(Path(name).resolve()) if Path(name).is_dir() else name)
        preset = read_index(index, name, place, list_presets())
        accepted = inspect.signature(cls.__init__).parameters
        for part, component in preset.components.items():
            if part in kwargs or part not in accepted:
                continue
            kind: Any = component_class(preset, part)
            if component.config:
                wanted = {"subfolder": part, **component.config, **hub}
                kwargs[part] = kind.from_pretrained(name, **wanted)
        if preset.notice:
            log.warning(preset.notice)
        sampler = {k: v for k, v in preset.sampler.items() if k in accepted}
        made = super().from_pretrained(name, **{**sampler, **kwargs, "trust_remote_code": False})
        made.limits = replace(made.limits, **preset.limits)
        for part, component in made.components.items():
            check_finite(component, f"{part} of {name}")
        return made

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> None:
        """As diffusers' own; keeps the limits in which this pipeline differs from its class."""
        usual = type(self).limits
        own = {f.name: getattr(self.limits, f.name) for f in fields(Limits)}
        changed = {k: v for k, v in own.items() if v != getattr(usual, k)}
        self.register_to_config(**{LIMITS: changed})
        super().save_pretrained(save_directory, *args, **kwargs)

    def plan(self, info: ClipInfo, window: int, overlap: int) -> list[Window]:
        """Windows in which the engine shall feed the clip; none spans a cut."""
        return sliding_windows(info.frames, window, overlap, info.cuts)

    def scale_of(self, settings: Any) -> int:
        """Enlargement under these settings."""
        return self.scale

    def limits_for(self, settings: Any) -> Limits:
        """The limits under these settings."""
        return self.limits

    def __call__(
        self,
        frames: Tensor,
        *,
        settings: Any,
        noise: Noise | None = None,
        mask: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        raise TypeError(f"{type(self).__name__} defines no __call__")

    @property
    def compute_dtype(self) -> torch.dtype:
        """Precision of the networks (the UNet's or transformer's)."""
        for name in ("unet", "transformer"):
            if (network := getattr(self, name, None)) is not None:
                return network.dtype
        return torch.float32


@dataclass(frozen=True)
class Batch:
    """`hr` `[B, T, 3, H, W]` and `lr` `[B, T, 3, H/s, W/s]`, float32 RGB in [0, 1].

    With the degradation "none" both are the same tensor. Until `to` has brought it where it is
    needed, a batch may hold 8-bit pixels, and grey ones in a single channel: a twelfth of the size.
    """

    hr: Tensor
    lr: Tensor

    def to(self, device: torch.device) -> "Batch":
        """On a device, as float32."""
        hr = _pixels(self.hr, device)
        return Batch(hr, hr if self.lr is self.hr else _pixels(self.lr, device))

    def packed(self) -> "Batch":
        """As bytes where nothing is lost by it, for the way between processes; undone by `to`."""
        hr = _bytes(self.hr)
        return Batch(hr, hr if self.lr is self.hr else _bytes(self.lr))

    def pin_memory(self) -> "Batch":
        """In memory that a GPU reads by itself; the data loader calls this."""
        hr = self.hr.pin_memory()
        return Batch(hr, hr if self.lr is self.hr else self.lr.pin_memory())


def _bytes(x: Tensor) -> Tensor:
    if x.dtype == torch.uint8:
        return x
    levels = (x * 255).round().clamp(0, 255).to(torch.uint8)
    return levels if torch.equal(levels.float() / 255, x) else x


def _pixels(x: Tensor, device: torch.device) -> Tensor:
    x = x.to(device, non_blocking=True)
    x = x.float() / 255 if x.dtype == torch.uint8 else x
    return x.expand(*x.shape[:2], 3, *x.shape[3:]).contiguous()


@dataclass(frozen=True)
class StageRequest:
    """What a recipe asks of a stage's objective."""

    stage: str
    pipeline: VSRPipeline | None
    """Loaded from the recipe's init_from; None: build one from `model`."""
    model: Mapping[str, Any]
    """Configuration of new components, by component name."""
    objective: Mapping[str, Any]
    """The stage's own settings."""
    frames: int
    """Frames of each training clip."""


class Objective(Protocol):
    """Training loss of one stage; lives beside the method's inference."""

    pipeline: VSRPipeline

    @property
    def trained(self) -> nn.Module:
        """The network whose parameters the optimizer changes."""
        ...

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Called once with some training data before the first step."""
        ...

    def to(self, device: torch.device) -> None:
        """Move everything that the loss needs."""
        ...

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its terms, 0-d without gradient.

        `network` is `trained`, perhaps wrapped for several devices.
        """
        ...
