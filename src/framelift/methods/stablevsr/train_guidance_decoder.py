"""Distillation of the small guidance decoder from the preset's full one.

The student learns on latents that it will meet: estimates x̃₀ that Algorithm 1 makes on training
clips, each frame's at a random one of the sampler's own steps, and encoded truth. The teacher's
picture of them is the target.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.draw import noise_of, randint
from framelift.diffusion.losses import PerceptualLoss
from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.stablevsr.guidance import SampledFrame
from framelift.methods.stablevsr.guidance_decoder import build_guidance_decoder
from framelift.methods.stablevsr.pipeline import StableVSRPipeline
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.sweep import Visit


@dataclass(frozen=True)
class GuidanceDecoderSettings:
    """Weights of the loss terms and where the latents come from."""

    sampled: float = 0.75
    """Share of the clips whose latents are estimates of Algorithm 1; the others are encoded."""
    pixel_weight: float = 1.0
    """Weight of the absolute difference between the two decoders' pictures, in [-1, 1]."""
    perceptual_weight: float = 0.0
    """Weight of LPIPS (VGG16) between the two pictures."""
    perceptual_crop: int = 64
    """Side of the square inside the crop on which LPIPS is computed, in pixels."""
    perceptual_share: float = 1.0
    """Share of the pictures on which LPIPS is computed."""


class GuidanceDecoderObjective:
    """Loss of the small decoder; everything else is frozen."""

    def __init__(self, pipeline: StableVSRPipeline, settings: GuidanceDecoderSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.sampling = StableVSRSettings()
        pipeline.set_progress_bar_config(disable=True)
        self.lpips = None
        if settings.perceptual_weight:
            self.lpips = PerceptualLoss(settings.perceptual_crop, settings.perceptual_share)

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.guidance_decoder.decoder

    def to(self, device: torch.device) -> None:
        """Move everything: the teacher samples with the whole pipeline."""
        self.pipeline.to(device)
        if self.lpips is not None:
            self.lpips.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing depends on the data."""

    def loss(
        self, decoder: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch `[B, T, 3, H, W]` and its terms."""
        taught, learned = self.pictures(decoder, batch, generator)
        terms = {"pixel": self.settings.pixel_weight * F.l1_loss(learned, taught)}
        if self.lpips is not None:
            weight = self.settings.perceptual_weight
            terms["lpips"] = weight * self.lpips(learned, taught.clamp(-1, 1), generator)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    def pictures(
        self, decoder: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The teacher's pictures and the student's, each `[B·T, 3, H, W]` in [-1, 1]."""
        with torch.no_grad():
            latents = self.latents(batch, generator)
            codec = self.pipeline.codec(batch.lr.flatten(0, 1) * 2 - 1)
            taught = codec.decode(latents)
        return taught, codec.from_guidance(decoder(latents))

    def show(self, batch: Batch) -> Tensor:
        """Rows of held-out pictures: the full decoder's, the small one's."""
        batch = batch.to(self.pipeline._execution_device)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            rows = self.pictures(self.trained, batch, generator)
        frames = batch.lr.shape[1]
        return torch.cat([torch.cat(list(row[::frames]), dim=-1) for row in rows], dim=-2) / 2 + 0.5

    def latents(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """What both decode `[B·T, c, h, w]`: estimates for the first clips, encoded truth after."""
        sampled = round(len(batch.lr) * self.settings.sampled)
        hr, lr = (x[sampled:].flatten(0, 1) * 2 - 1 for x in (batch.hr, batch.lr))
        found = [self.estimates(clip, generator) for clip in batch.lr[:sampled]]
        if len(lr):
            found.append(self.pipeline.codec(lr).encode(hr, generator))
        return torch.cat(found)

    def estimates(self, clip: Tensor, generator: torch.Generator) -> Tensor:
        """x̃₀ `[T, c, h, w]` of a clip `[T, 3, h, w]` in [0, 1] at random steps of Algorithm 1."""
        total = len(self.pipeline.sampler(self.sampling))
        steps = [randint(total, generator) for _ in clip]
        found: dict[int, Tensor] = {}

        def keep(visit: Visit, state: SampledFrame, guidance: Tensor | None) -> None:
            if visit.step == steps[visit.frame] and state.estimate is not None:
                found[visit.frame] = state.estimate

        noise = noise_of(generator, clip.device)
        self.pipeline(clip, settings=self.sampling, noise=noise, on_visit=keep)
        return torch.cat([found[n] for n in range(len(clip))])


def build(request: StageRequest) -> GuidanceDecoderObjective:
    """The objective of `guidance-decoder`."""
    settings = from_mapping(GuidanceDecoderSettings, request.objective, "[objective]")
    pipeline = request.pipeline
    if not isinstance(pipeline, StableVSRPipeline):
        raise UsageError(
            "The small guidance decoder is distilled from a StableVSR.",
            "Name its preset or folder as init_from.",
        )
    if pipeline.guidance_decoder is None:
        small = build_guidance_decoder(
            pipeline.latent_space, **request.model.get("guidance_decoder", {})
        )
        pipeline.register_modules(guidance_decoder=small)
    return GuidanceDecoderObjective(pipeline, settings)
