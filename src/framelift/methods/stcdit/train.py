"""Training of the video DiT by flow matching: the base, and what STCDiT adds to it.

The loss is the mean squared error of the velocity n − x₀ at x_σ = (1−σ) x₀ + σ n, σ drawn uniformly
over the scheduler's shifted levels. `base` trains a transformer from random weights; `stcdit`
trains LoRA, AFR, ACFM and the LQ patches of a frozen one. Clips are cut into segments at random
places, as camera motion would cut them, the same for a batch; a part of the steps takes frames as
pictures.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.draw import draw_timesteps, normal, randint
from framelift.diffusion.parameterisation import add_noise, target
from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.stcdit.build import build_base, extend, pipeline_of
from framelift.methods.stcdit.codec import SegmentCodec
from framelift.methods.stcdit.pipeline import STCDiTPipeline
from framelift.methods.stcdit.settings import STCDiTSettings
from framelift.methods.stcdit.transformer import AnchoredWanTransformer
from framelift.methods.stcdit.velocity import Condition

LEVELS = 1000  # noise levels that are drawn from
FITTED_BATCHES, FITTED_CLIPS = 4, 4  # that the latents are measured on
SHOWN = 6  # clips in a sample picture


@dataclass(frozen=True)
class FlowSettings:
    """How a batch of clips becomes a training step."""

    fit_latents: bool = False
    """Measure on the first clips what the latents' mean and deviation are, by channel, and write
    them to the VAE's configuration; and how far HR latents are from LQ ones (`residual_std`), where
    `correction` is set."""
    correction: bool = False
    """Let the output be a correction of a linear guess (`LinearGuess`) instead of the velocity."""
    segments: int = 2
    """Segments of a clip at most; their number and their borders are drawn."""
    picture_share: float = 0.0
    """Share of the steps that take every frame as a clip of its own."""


class FlowObjective:
    """Loss of the transformer; the VAE is frozen."""

    def __init__(self, pipeline: STCDiTPipeline, settings: FlowSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False)
        self._trained = _trained(pipeline.transformer)
        self._trained.requires_grad_(True)

    @property
    def trained(self) -> nn.Module:
        return self._trained

    def to(self, device: torch.device) -> None:
        """Move the whole pipeline."""
        self.pipeline.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Measure the latents, before the first step."""
        if not self.settings.fit_latents:
            return
        pipeline, vae = self.pipeline, self.pipeline.vae
        channels = pipeline.latent_space.channels
        vae.register_to_config(latents_mean=[0.0] * channels, latents_std=[1.0] * channels)
        kept = []
        for batch in islice(batches, FITTED_BATCHES):
            hr, lr = batch.hr[:FITTED_CLIPS], batch.lr[:FITTED_CLIPS]
            codec = SegmentCodec(vae, [range(hr.shape[1])])
            with torch.no_grad():
                y = pipeline.enlarge(lr, _factor(batch))
                kept.append((codec.encode(pipeline.enlarge(hr, 1)), codec.encode(y)))
        x, y = (torch.cat(all_) for all_ in zip(*kept, strict=True))
        std, mean = torch.std_mean(x, dim=(0, 2, 3, 4))
        vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
        if self.settings.correction:
            residual = (x - y) / std[:, None, None, None]
            pipeline.register_to_config(residual_std=float(residual.square().mean().sqrt()))

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the velocity, one noise level a clip."""
        pipeline = self.pipeline
        hr, lr = batch.hr, batch.lr
        if randint(LEVELS, generator) < self.settings.picture_share * LEVELS:
            hr, lr = (x.flatten(0, 1)[:, None] for x in (hr, lr))
        settings = STCDiTSettings(enlarge=_factor(batch))
        codec = SegmentCodec(pipeline.vae, self.draw_segments(hr.shape[1], generator))
        with torch.no_grad():
            y = codec.encode(pipeline.enlarge(lr, settings.enlarge))
            x0 = codec.encode(pipeline.enlarge(hr, 1))
            text = pipeline.encode_prompt(STCDiTSettings(guidance_scale=1.0))
        condition = Condition(y, pipeline.anchors(codec, settings), text)
        noise = normal(x0.shape, x0.device, generator)
        sigma = self.draw_sigma(len(x0), x0.device, generator)
        x_t = add_noise(x0, noise, 1 - sigma, sigma)
        output = pipeline.velocity(x_t, sigma, condition, network)
        loss = F.mse_loss(output, target("flow_prediction", x0, noise, 1 - sigma, sigma))
        return loss, {"flow_prediction": loss.detach()}

    def draw_sigma(self, count: int, device: torch.device, generator: torch.Generator) -> Tensor:
        """Noise levels `[count]`, uniform before the scheduler's shift."""
        u = (draw_timesteps(LEVELS, count, device, generator) + 1) / LEVELS
        shift = self.pipeline.scheduler.config["shift"]
        return shift * u / (1 + (shift - 1) * u)

    def draw_segments(self, frames: int, generator: torch.Generator) -> list[range]:
        """Segments that cover a clip, cut where a latent would end."""
        most = min(self.settings.segments, frames)
        places = range(1, frames, self.pipeline.latent_space.temporal_factor)
        count = 1 + (randint(most, generator) if most > 1 else 0)
        borders = sorted({places[randint(len(places), generator)] for _ in range(count - 1)})
        starts = [0, *borders]
        return [range(a, b) for a, b in zip(starts, [*borders, frames], strict=True)]

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """Rows of last frames: bicubic, the result, the truth `[3, H, W]`."""
        pipeline, factor = self.pipeline, _factor(batch)
        batch = batch.to(pipeline._execution_device)
        settings = STCDiTSettings(enlarge=factor)
        rows: list[list[Tensor]] = [[], [], []]
        for lr, hr in zip(batch.lr[:SHOWN], batch.hr[:SHOWN], strict=True):
            height, width = hr.shape[-2:]
            bicubic = (pipeline.enlarge(lr, factor)[-1, :, :height, :width] + 1) / 2
            made = pipeline(lr, settings=settings)[-1]
            for row, frame in zip(rows, (bicubic, made, hr[-1]), strict=True):
                row.append(frame)
        return torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)


class _Added(nn.Module):
    """What STCDiT adds to a base as one call, as distributed training wants it.

    Its parameters are those alone: the base is frozen.
    """

    def __init__(self, transformer: AnchoredWanTransformer) -> None:
        super().__init__()
        added = transformer.added().items()
        self.added = nn.ModuleDict({name.replace(".", "/"): module for name, module in added})
        self._transformer = [transformer]  # in a list, its parameters are not this module's

    def forward(self, *args: Any, **named: Any) -> Any:
        return self._transformer[0](*args, **named)


def _trained(transformer: Any) -> nn.Module:
    """The whole transformer, or what was added to it."""
    return _Added(transformer) if isinstance(transformer, AnchoredWanTransformer) else transformer


def _factor(batch: Batch) -> int:
    return batch.hr.shape[-1] // batch.lr.shape[-1]


def build(request: StageRequest) -> FlowObjective:
    """The objective of `base` or `stcdit`; `model` describes the transformer or what is added."""
    settings = from_mapping(FlowSettings, request.objective, "[objective]")
    pipeline = pipeline_of(request.pipeline)
    if pipeline is None:
        raise UsageError(
            f"The stage {request.stage} starts from a pipeline with a VAE.",
            "Name one as init_from: a run of the stage before, or a preset.",
        )
    if options := request.model.get("pipeline"):
        pipeline.register_to_config(**options)
    transformer = pipeline.transformer
    if request.stage == "base":
        if transformer is None:
            transformer = build_base(pipeline, request.model["transformer"])
    elif transformer is None:
        raise UsageError(
            "STCDiT extends a trained transformer, and this pipeline has none.",
            "Name a run of the stage base, or a published base, as init_from.",
        )
    elif not isinstance(transformer, AnchoredWanTransformer):
        transformer = extend(transformer, request.model.get("guidance", {}))
    pipeline.register_modules(transformer=transformer)
    return FlowObjective(pipeline, settings)
