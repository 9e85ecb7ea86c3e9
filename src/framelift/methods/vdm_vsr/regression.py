"""What the prior is compared with: the same transformer, trained on pairs by regression.

Not in the paper. It sees the LR clip, enlarged, and returns the HR clip at once; eight by eight
pixels are the channels of one latent place, so that its blocks see the tokens that the prior's see.
It knows the operators that it was trained on and no others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.degrade.stages.observe import Observation
from framelift.diffusion.draw import normal, randint
from framelift.methods.base import Batch, Noise, OnStep, StageRequest, VSRPipeline
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.ops.interpolate import interpolate

PATCH = 8


class RegressionPipeline(VSRPipeline):
    """LR clip [0, 1] → HR clip, in one evaluation of the network."""

    model_cpu_offload_seq = "transformer"

    def __init__(self, transformer: STDiT, scale: int = 4) -> None:
        super().__init__()
        self.register_modules(transformer=transformer)
        self.register_to_config(scale=scale)

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,
        *,
        settings: Any = None,
        noise: Noise | None = None,
        mask: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Upscale `[T, 3, h, w]` in [0, 1] by the configured scale."""
        y = (frames * 2 - 1)[None].to(self._execution_device)
        made = regress(self.transformer, y, self.config["scale"])[0]
        return ((made + 1) / 2).clamp(0, 1)


def regress(network: nn.Module, y: Tensor, scale: int) -> Tensor:
    """HR clips for LR clips `[B, T, 3, h, w]` in [-1, 1]; the scale takes the timestep's place."""
    batch = len(y)
    enlarged = interpolate(y.flatten(0, 1), scale)
    folded = F.pixel_unshuffle(enlarged, PATCH).unflatten(0, (batch, -1)).transpose(1, 2)
    labels = torch.full((batch,), scale, device=y.device)
    detail = network(folded, labels).float().transpose(1, 2)
    return (enlarged + F.pixel_shuffle(detail.flatten(0, 1), PATCH)).unflatten(0, (batch, -1))


@dataclass(frozen=True)
class RegressionSettings:
    """The observations that the network is trained for."""

    scales: tuple[int, ...] = (4, 8)
    """Factors of the decimation, one drawn for every batch."""
    blur_sigma: float = 0.0
    """Deviation of the blur before it, in HR pixels."""
    noise_sigma: float = 0.01
    """Deviation of the sensor noise, in [-1, 1]."""


class RegressionObjective:
    """Mean squared error of the pixels, which PSNR rewards."""

    def __init__(self, pipeline: RegressionPipeline, settings: RegressionSettings) -> None:
        self.pipeline, self.settings = pipeline, settings

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.transformer

    def to(self, device: torch.device) -> None:
        """There is nothing but the trained network."""

    def prepare(self, batches: Any) -> None:
        """Nothing needs to be known of the data."""

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch of clips and its terms."""
        scales = self.settings.scales
        scale = scales[randint(len(scales), generator)]
        x = batch.hr * 2 - 1
        loss = F.mse_loss(regress(network, self.observe(x, scale, generator), scale), x)
        return loss, {f"squared_{scale}": loss.detach()}

    def observe(self, x: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Y of clips `[B, T, 3, H, W]` in [-1, 1]."""
        y = Observation(scale, self.settings.blur_sigma)(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return y + self.settings.noise_sigma * normal(y.shape, y.device, generator)

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """First frames: ground truth, then the result at every scale `[3, H, W]`."""
        x = batch.hr[:8].to(self.pipeline._execution_device) * 2 - 1
        generator = torch.Generator().manual_seed(0)
        rows = [x[:, 0]]
        for scale in self.settings.scales:
            y = self.observe(x, scale, generator)
            rows.append(regress(self.pipeline.transformer, y, scale)[:, 0])
        return (torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2) + 1) / 2


def build(request: StageRequest) -> RegressionObjective:
    """The objective of `regression`; it always starts from random weights."""
    settings = from_mapping(RegressionSettings, request.objective, "[objective]")
    return RegressionObjective(build_regression(request.model), settings)


def build_regression(model: Mapping[str, Any]) -> RegressionPipeline:
    """An untrained network with the prior's blocks; `model` describes `transformer`."""
    channels = 3 * PATCH**2
    return RegressionPipeline(
        STDiT(**{**model["transformer"], "in_channels": channels, "learn_sigma": False})
    )
