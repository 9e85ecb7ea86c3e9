"""Which objective trains a method's stage."""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from framelift.configure import from_mapping
from framelift.data.crops import Batch
from framelift.errors import UsageError
from framelift.methods.base import VSRPipeline
from framelift.training.settings import TrainSettings


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
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss and its terms; `network` is `trained`, perhaps wrapped for several devices."""
        ...


def build_objective(settings: TrainSettings) -> Objective:
    """Build the components that a recipe names and the objective that trains them."""
    if settings.method == "image_ldm":
        return _image_ldm(settings)
    raise UsageError(f"There is no method {settings.method!r} to train.", "Known is image_ldm.")


def _image_ldm(settings: TrainSettings) -> Any:
    from framelift.methods.image_ldm import objective as image_ldm
    from framelift.methods.load import load_pipeline

    if settings.stage not in ("denoiser", "few-step"):
        raise UsageError(
            f"image_ldm has no stage {settings.stage!r}.", "Its stages are denoiser and few-step."
        )
    own = from_mapping(image_ldm.ObjectiveSettings, settings.objective, "[objective]")
    if settings.stage == "few-step" and not (own.timesteps and own.on_policy):
        raise UsageError(
            "The few-step stage trains the sampler's own steps.", "Set timesteps and on_policy."
        )
    if settings.init_from:
        pipeline: Any = load_pipeline(settings.init_from)
        if own.timesteps:
            pipeline.register_to_config(timesteps=list(own.timesteps), steps=len(own.timesteps))
    else:
        pipeline = image_ldm.build_pipeline(settings.model, own.timesteps)
    return image_ldm.ImageLDMObjective(pipeline, own)
