"""Training of SATeCo in the paper's four stages (section 3.5); whatever else there is is frozen.

1. `upscaler`: Charbonnier loss of X_u.
2. `unet`: E_z and the modules in the UNet, by the usual loss of the noise of HR latents.
3. `vae`: the modules in the VAE's decoder, from HR latents, by Charbonnier loss and LPIPS.
4. `refiner`: Charbonnier loss of X_H, on videos that the pipeline has sampled.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.codecs import KLCodec
from framelift.diffusion.draw import draw_timesteps, noise_of, normal
from framelift.diffusion.losses import PerceptualLoss, charbonnier
from framelift.diffusion.parameterisation import add_noise, alpha_sigma, prediction_of, target
from framelift.errors import UsageError
from framelift.methods.base import Batch, Objective, StageRequest
from framelift.methods.sateco.build import LOADED, build_pipeline
from framelift.methods.sateco.pipeline import Guidance, SATeCoPipeline
from framelift.methods.sateco.settings import SATeCoSettings

SHOWN = 4  # clips in a sample picture


@dataclass(frozen=True)
class StageSettings:
    """Weights of the loss terms."""

    perceptual_weight: float = 0.1
    """Weight of LPIPS (VGG16) in the stage `vae`; 0 leaves it out."""
    perceptual_crop: int = 64
    """Side of the square inside the crop on which LPIPS is computed, in pixels."""
    perceptual_share: float = 1.0
    """Share of the frames on which LPIPS is computed."""
    steps: int | None = None
    """Sampling steps of the videos that the stage `refiner` learns on (default: the preset's)."""


class Stage:
    """What the four stages share: everything but what they train is frozen."""

    def __init__(self, pipeline: SATeCoPipeline, settings: StageSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        for network in self._networks():
            network.requires_grad_(False)
        self.trained.requires_grad_(True)

    @property
    def trained(self) -> nn.Module:
        raise TypeError(f"{type(self).__name__} trains nothing")

    def to(self, device: torch.device) -> None:
        """Move the whole pipeline."""
        self.pipeline.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing depends on the data."""

    def show(self, batch: Batch) -> Tensor:
        """Rows of last frames: bicubic-like X_u, the result, the truth `[3, H, W]`."""
        noise = noise_of(torch.Generator(batch.lr.device).manual_seed(0), batch.lr.device)
        rows: list[list[Tensor]] = [[], [], []]
        for lr, hr in zip(batch.lr[:SHOWN], batch.hr[:SHOWN], strict=True):
            with torch.no_grad():
                x_u = (self.pipeline.enlarge(lr)[-1] + 1) / 2
            made = self.pipeline(lr, noise=noise)[-1]
            for row, frame in zip(rows, (x_u, made, hr[-1]), strict=True):
                row.append(frame)
        return torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)

    def _networks(self) -> list[nn.Module]:
        return [c for c in self.pipeline.components.values() if isinstance(c, nn.Module)]


class UpscalerStage(Stage):
    """Stage 1."""

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.upscaler

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Charbonnier loss of X_u."""
        loss = charbonnier(network(batch.lr).float(), batch.hr)
        return loss, {"charbonnier": loss.detach()}

    def show(self, batch: Batch) -> Tensor:
        """Rows of last frames: X_u, the truth `[3, H, W]`."""
        with torch.no_grad():
            made = (self.pipeline.enlarge(batch.lr[:SHOWN])[:, -1] + 1) / 2
        rows = (made, batch.hr[:SHOWN, -1])
        return torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)


class GuidedUNet(nn.Module):
    """E_z and the UNet's modules as one call, as distributed training wants it.

    Its parameters are theirs alone: the UNet is frozen.
    """

    def __init__(self, pipeline: SATeCoPipeline) -> None:
        super().__init__()
        self.latent_encoder, self.guidance = pipeline.latent_encoder, pipeline.unet_guidance
        self._pipeline = [pipeline]  # in a list, its networks are not this module's

    def forward(
        self, x_t: Tensor, t: Tensor, z: Tensor, frames: int, context: Tensor | None
    ) -> Tensor:
        """The UNet's output for x_t `[B·L, c, h, w]`, guided by Z."""
        guidance = Guidance(z, self.latent_encoder(z), [], frames)
        return self._pipeline[0].denoise(x_t, t, guidance, context)


class UNetStage(Stage):
    """Stage 2."""

    @property
    def trained(self) -> nn.Module:
        return GuidedUNet(self.pipeline)

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the network's prediction for HR latents, one timestep a clip."""
        pipeline, frames = self.pipeline, batch.hr.shape[1]
        scheduler, codec = pipeline.scheduler, KLCodec(pipeline.vae)
        with torch.no_grad():
            x_u = pipeline.enlarge(batch.lr).flatten(0, 1)
            z = codec.encode(x_u)
            x0 = codec.encode(batch.hr.flatten(0, 1) * 2 - 1)
            context = pipeline.encode_prompt(SATeCoSettings())
        noise = normal((len(batch.hr), frames, *x0.shape[1:]), x0.device, generator).flatten(0, 1)
        steps = scheduler.config["num_train_timesteps"]
        t = draw_timesteps(steps, len(batch.hr), x0.device, generator).repeat_interleave(frames)
        alpha, sigma = alpha_sigma(scheduler.alphas_cumprod, t)
        output = network(add_noise(x0, noise, alpha, sigma), t, z, frames, context)
        kind = prediction_of(scheduler)
        loss = F.mse_loss(output, target(kind, x0, noise, alpha, sigma))
        return loss, {kind: loss.detach()}


class GuidedDecoder(nn.Module):
    """The VAE decoder's modules as one call; the VAE is frozen."""

    def __init__(self, pipeline: SATeCoPipeline) -> None:
        super().__init__()
        self.guidance = pipeline.vae_guidance
        self._pipeline = [pipeline]

    def forward(self, latents: Tensor, features: list[Tensor], frames: int) -> Tensor:
        """X_d `[B·L, 3, H, W]` in [-1, 1]."""
        return self._pipeline[0].decode(latents, Guidance(latents, [], features, frames))


class VAEStage(Stage):
    """Stage 3."""

    def __init__(self, pipeline: SATeCoPipeline, settings: StageSettings) -> None:
        super().__init__(pipeline, settings)
        self.lpips = None
        if settings.perceptual_weight:
            self.lpips = PerceptualLoss(settings.perceptual_crop, settings.perceptual_share)

    @property
    def trained(self) -> nn.Module:
        return GuidedDecoder(self.pipeline)

    def to(self, device: torch.device) -> None:
        """Move the pipeline and the perceptual network."""
        super().to(device)
        if self.lpips is not None:
            self.lpips.to(device)

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Similarity of the decoded HR latents, guided by X_u, to the HR video."""
        pipeline, truth = self.pipeline, batch.hr.flatten(0, 1) * 2 - 1
        with torch.no_grad():
            guidance = pipeline.guide(pipeline.enlarge(batch.lr).flatten(0, 1), batch.hr.shape[1])
            latents = KLCodec(pipeline.vae).encode(truth)
        x_d = network(latents, guidance.features, guidance.frames)
        terms = {"charbonnier": charbonnier(x_d / 2, truth / 2)}
        if self.lpips is not None:
            weight = self.settings.perceptual_weight
            terms["lpips"] = weight * self.lpips(x_d, truth, generator)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}


class RefinerStage(Stage):
    """Stage 4."""

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.refiner

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Charbonnier loss of X_H, on the pipeline's own X_d."""
        with torch.no_grad():
            x_u, x_d = self.videos(batch, generator)
        loss = charbonnier(network(x_u, x_d).float() / 2, batch.hr.flatten(0, 1) - 0.5)
        return loss, {"charbonnier": loss.detach()}

    def videos(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """X_u and X_d of the batch's clips, `[B·L, 3, H, W]` in [-1, 1]."""
        pipeline, settings = self.pipeline, SATeCoSettings(steps=self.settings.steps)
        x_u = pipeline.enlarge(batch.lr).flatten(0, 1)
        guidance = pipeline.guide(x_u, batch.lr.shape[1])
        noise = noise_of(generator, x_u.device)
        *_, (_, _, z_0) = pipeline.sample(pipeline.sampler(settings), guidance, settings, noise)
        return x_u, pipeline.decode(z_0, guidance)


STAGES: dict[str, type[Any]] = {
    "upscaler": UpscalerStage,
    "unet": UNetStage,
    "vae": VAEStage,
    "refiner": RefinerStage,
}


def build(request: StageRequest) -> Objective:
    """The objective of a stage; new components come from `request.model` (see `build_pipeline`)."""
    settings = from_mapping(StageSettings, request.objective, "[objective]")
    base = request.pipeline
    if base is not None and not isinstance(base, SATeCoPipeline):
        raise UsageError(
            f"SATeCo is not trained from a {type(base).__name__}.",
            "Name a SATeCo's preset or folder as init_from, or none.",
        )
    modules = ("upscaler",) if request.stage == "upscaler" else tuple(LOADED)
    pipeline = build_pipeline(request.model, base, modules)
    return STAGES[request.stage](pipeline, settings)
