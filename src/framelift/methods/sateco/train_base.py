"""Training of what SATeCo builds on, for presets that do not start from Stable Diffusion.

`base-vae`: the autoencoder on HR frames, by Charbonnier loss, LPIPS, the difference of spectra and
a slight Kullback-Leibler term (Rombach et al. 2022, without the discriminator). `base-unet`: the
usual diffusion loss of its latents, whose deviation is measured first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.codecs import KLCodec
from framelift.diffusion.draw import draw_timesteps, normal
from framelift.diffusion.losses import PerceptualLoss, charbonnier, spectral_loss
from framelift.diffusion.parameterisation import (
    add_noise,
    alpha_sigma,
    prediction_of,
    target,
    to_x0,
)
from framelift.diffusion.patch_autoencoder import PatchAutoencoderKL
from framelift.errors import UsageError
from framelift.methods.base import Batch, Objective, StageRequest
from framelift.methods.sateco.build import build_base
from framelift.methods.sateco.pipeline import SATeCoPipeline

SHOWN = 6


@dataclass(frozen=True)
class BaseSettings:
    """Weights of the autoencoder's loss terms."""

    kl_weight: float = 1e-4
    """Weight of the KL divergence, a mean over latent values, in nats."""
    perceptual_weight: float = 0.1
    """Weight of LPIPS (VGG16); 0 leaves it out."""
    perceptual_crop: int = 128
    """Side of the square inside the crop on which LPIPS is computed, in pixels."""
    perceptual_share: float = 1.0
    """Share of the frames on which LPIPS is computed."""
    spectral_weight: float = 0.01
    """Weight of the difference of log power spectra."""


class BaseVAEStage:
    """Loss of the autoencoder."""

    def __init__(self, pipeline: SATeCoPipeline, settings: BaseSettings) -> None:
        if not isinstance(pipeline.vae, PatchAutoencoderKL):
            raise UsageError(
                f"The stage base-vae does not train a {type(pipeline.vae).__name__}.",
                "Give [model.vae] a patch_size, or begin with the stage upscaler.",
            )
        self.pipeline: Any = pipeline
        self.settings = settings
        self.lpips = None
        if settings.perceptual_weight:
            self.lpips = PerceptualLoss(settings.perceptual_crop, settings.perceptual_share)

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.vae

    def to(self, device: torch.device) -> None:
        """Move the pipeline and the perceptual network."""
        self.pipeline.to(device)
        if self.lpips is not None:
            self.lpips.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing depends on the data."""

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the reconstruction and its terms."""
        own, truth = self.settings, batch.hr.flatten(0, 1) * 2 - 1
        size = self.pipeline.vae.latent_space.size(*truth.shape[-2:])
        made, kl = network(truth, normal((len(truth), *size), truth.device, generator))
        made = made.float()
        terms = {"charbonnier": charbonnier(made / 2, truth / 2), "kl": own.kl_weight * kl}
        if own.spectral_weight:
            terms["spectral"] = own.spectral_weight * spectral_loss(made, truth)
        if self.lpips is not None:
            terms["lpips"] = own.perceptual_weight * self.lpips(made, truth, generator)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """The truth above its reconstruction `[3, H, W]`."""
        truth, codec = batch.hr[:SHOWN, 0], KLCodec(self.pipeline.vae)
        made = (codec.decode(codec.encode(truth * 2 - 1)) + 1) / 2
        return torch.cat([torch.cat(list(row), dim=-1) for row in (truth, made)], dim=-2)


class BaseUNetStage:
    """Loss of the denoiser."""

    def __init__(self, pipeline: SATeCoPipeline) -> None:
        self.pipeline: Any = pipeline
        pipeline.vae.requires_grad_(False)

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.unet

    def to(self, device: torch.device) -> None:
        """Move the pipeline."""
        self.pipeline.to(device)

    @torch.no_grad()
    def prepare(self, batches: Iterable[Batch]) -> None:
        """Measure the latents' mean and deviation, where the autoencoder leaves that open."""
        vae = self.pipeline.vae
        if isinstance(vae, PatchAutoencoderKL):
            found = [KLCodec(vae).posterior(b.hr[:, 0] * 2 - 1).mean for b in batches]
            z = torch.cat(found).float()
            vae.register_to_config(
                shift_factor=round(float(z.mean()), 6),
                scaling_factor=round(1 / float(z.std()), 6),
            )

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the network's prediction, t uniform."""
        scheduler = self.pipeline.scheduler
        with torch.no_grad():
            x0 = KLCodec(self.pipeline.vae).encode(batch.hr.flatten(0, 1) * 2 - 1, generator)
        noise = normal(x0.shape, x0.device, generator)
        t = draw_timesteps(scheduler.config["num_train_timesteps"], len(x0), x0.device, generator)
        alpha, sigma = alpha_sigma(scheduler.alphas_cumprod, t)
        x_t = add_noise(x0, noise, alpha, sigma)
        (output,) = network(x_t, t, None, return_dict=False)
        kind = prediction_of(scheduler)
        loss = F.mse_loss(output.float(), target(kind, x0, noise, alpha, sigma))
        return loss, {kind: loss.detach()}

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """The truth above x̃₀ of its latents at half of the timesteps `[3, H, W]`."""
        pipeline, truth = self.pipeline, batch.hr[:SHOWN, 0]
        scheduler, codec = pipeline.scheduler, KLCodec(pipeline.vae)
        x0 = codec.encode(truth * 2 - 1)
        noise = normal(x0.shape, x0.device, torch.Generator(x0.device).manual_seed(0))
        t = torch.full((len(x0),), scheduler.config["num_train_timesteps"] // 2, device=x0.device)
        alpha, sigma = alpha_sigma(scheduler.alphas_cumprod, t)
        x_t = add_noise(x0, noise, alpha, sigma)
        (output,) = pipeline.unet(x_t, t, None, return_dict=False)
        estimate = to_x0(prediction_of(scheduler), output.float(), x_t, alpha, sigma)
        made = (codec.decode(estimate) + 1) / 2
        return torch.cat([torch.cat(list(row), dim=-1) for row in (truth, made)], dim=-2)


def build(request: StageRequest) -> Objective:
    """The objective of `base-vae` or `base-unet`."""
    settings = from_mapping(BaseSettings, request.objective, "[objective]")
    pipeline = request.pipeline
    if pipeline is None:
        pipeline = build_base(request.model)
    if not isinstance(pipeline, SATeCoPipeline):
        raise UsageError(
            f"A {type(pipeline).__name__} is not a base of SATeCo.",
            "Name the folder of the stage base-vae as init_from, or none.",
        )
    if request.stage == "base-vae":
        return BaseVAEStage(pipeline, settings)
    return BaseUNetStage(pipeline)
