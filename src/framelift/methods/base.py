"""The contract between a method and the engine."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from framelift.ops.windows import Window, sliding_windows
from framelift.types import Limits


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
    settings_class: type = object
    """The dataclass that `settings` is an instance of."""

    def watch(self, settings: Any) -> "Watcher | None":
        """What shall see every frame of the survey, so that `plan` may look at pixels."""
        return None

    def warnings(self, settings: Any) -> list[str]:
        """What a user should know before a run with these settings, in whole sentences."""
        return []

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

    With the degradation "none" both are the same tensor.
    """

    hr: Tensor
    lr: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.hr.to(device), self.lr.to(device))


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
