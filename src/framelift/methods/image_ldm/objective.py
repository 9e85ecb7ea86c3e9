"""Training of the per-frame upscaler, in two stages.

`denoiser`: the usual diffusion loss (Rombach et al. 2022, eq. 2), with the scheduler's own target
(v for every preset here; Salimans & Ho 2022), at uniformly drawn timesteps.

`few-step`: makes the preset's handful of timesteps count. The sampler runs from pure noise to a
randomly chosen one of its own steps without gradient; the estimate x̃₀ made there (StableVSR eq. 6)
is then compared with the truth, in latents and, decoded, by VGG16 features (LPIPS). A share of
every batch keeps the loss of the first stage, so that the model stays a diffusion model at every
timestep.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin, UNet2DConditionModel
from torch import Tensor, nn

from framelift.data.crops import Batch
from framelift.methods.image_ldm.pipeline import ImageLDMPipeline
from framelift.models.block_transform import BlockTransformCodec
from framelift.models.codec import as_codec


@dataclass(frozen=True)
class ObjectiveSettings:
    """Weights and shares of the loss terms."""

    fit_codec: bool = False
    """Measure the block transform's channel deviations on the first crops."""
    timesteps: tuple[int, ...] = ()
    """Sampling steps that the few-step stage trains, and the pipeline then uses."""
    on_policy: float = 0.0
    """Share of the batch that the few-step stage takes from the sampler's own trajectory."""
    latent_weight: float = 1.0
    """Weight of |x̃₀ − x₀| on the trajectory."""
    perceptual_weight: float = 0.0
    """Weight of LPIPS (VGG16) of the decoded x̃₀ on the trajectory."""
    perceptual_crop: int = 64
    """Side of the square inside the crop on which LPIPS is computed, in pixels."""


class ImageLDMObjective:
    """Loss of the UNet; the codec is fixed."""

    def __init__(self, pipeline: ImageLDMPipeline, settings: ObjectiveSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.codec = as_codec(pipeline.vae)
        self.scheduler: Any = pipeline.scheduler
        self.lpips = perceptual_distance() if settings.perceptual_weight else None

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.unet

    def to(self, device: torch.device) -> None:
        """Move the codec and the perceptual network; the trained network is moved by the loop."""
        self.pipeline.vae.to(device)
        if self.lpips is not None:
            self.lpips.to(device)

    def prepare(self, batch: Batch) -> None:
        """Measure what the codec needs to know of the data, before the first step."""
        if self.settings.fit_codec and isinstance(self.pipeline.vae, BlockTransformCodec):
            self.pipeline.vae.fit(batch.hr[:, 0] * 2 - 1, batch.lr[:, 0] * 2 - 1)

    def loss(
        self, unet: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch and its terms."""
        hr, lr = batch.hr[:, 0] * 2 - 1, batch.lr[:, 0] * 2 - 1
        x0 = self.codec.to_latents(hr, lr)
        own = round(len(x0) * self.settings.on_policy)
        terms: dict[str, Tensor] = {}
        if own < len(x0):
            terms["v"] = self.denoising_loss(unet, x0[own:], lr[own:], generator)
        if own:
            terms |= self.few_step_loss(unet, x0[:own], hr[:own], lr[:own], generator)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: float(value.detach()) for name, value in terms.items()}

    def denoising_loss(
        self, unet: nn.Module, x0: Tensor, lr: Tensor, generator: torch.Generator
    ) -> Tensor:
        """‖v_θ(x_t, t, LR) − v‖², t uniform."""
        noise = _randn_like(x0, generator)
        steps = self.scheduler.config.num_train_timesteps
        t = torch.randint(steps, (len(x0),), generator=generator, device=generator.device)
        t = t.to(x0.device)
        alpha, sigma = self.alpha_sigma(t)
        x_t = alpha * x0 + sigma * noise
        return F.mse_loss(_predict(unet, x_t, t, lr), alpha * noise - sigma * x0)

    def few_step_loss(
        self, unet: nn.Module, x0: Tensor, hr: Tensor, lr: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of x̃₀ at one of the sampler's own steps, on its own trajectory."""
        sampler: Any = DPMSolverMultistepScheduler.from_config(self.scheduler.config)
        sampler.set_timesteps(timesteps=list(self.settings.timesteps))
        stop = _randint(len(sampler.timesteps), generator)
        x_t = _randn_like(x0, generator)
        with torch.no_grad():
            for t in sampler.timesteps[:stop]:
                v = _predict(unet, x_t, t.to(x0.device).expand(len(x0)), lr)
                x_t = sampler.step(v, t, x_t).prev_sample
        t = sampler.timesteps[stop].to(x0.device).expand(len(x0))
        v = _predict(unet, x_t, t, lr)
        alpha, sigma = self.alpha_sigma(t)
        estimate = alpha * x_t - sigma * v
        terms = {"x0": self.settings.latent_weight * F.l1_loss(estimate, x0)}
        if self.lpips is not None:
            picture = self.codec.to_frames(estimate, lr).clamp(-1, 1)
            side = min(self.settings.perceptual_crop, *hr.shape[-2:])
            y, x = (_randint(length - side + 1, generator) for length in hr.shape[-2:])
            picture, truth = (p[..., y : y + side, x : x + side] for p in (picture, hr))
            terms["lpips"] = self.settings.perceptual_weight * self.lpips(picture, truth).mean()
        return terms

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1−ᾱ_t), each `[B, 1, 1, 1]`."""
        cumulative = self.scheduler.alphas_cumprod.to(t.device)[t][:, None, None, None]
        return cumulative.sqrt(), (1 - cumulative).sqrt()


def build_pipeline(
    model: dict[str, dict[str, Any]], timesteps: tuple[int, ...]
) -> ImageLDMPipeline:
    """New components from a recipe's configuration, with random weights."""
    vae = BlockTransformCodec(**model["vae"])
    unet_config = {
        "in_channels": vae.latent_channels + 3,
        "out_channels": vae.latent_channels,
        **model["unet"],
    }
    unet = UNet2DConditionModel(**unet_config)
    scheduler: SchedulerMixin = DPMSolverMultistepScheduler(**model["scheduler"])
    return ImageLDMPipeline(
        vae, unet, scheduler, timesteps=list(timesteps) or None, steps=len(timesteps) or 20
    )


def perceptual_distance() -> nn.Module:
    """LPIPS on VGG16 features, for pictures in [-1, 1]."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network: nn.Module = LearnedPerceptualImagePatchSimilarity(net_type="vgg").net
    return network.requires_grad_(False).eval()


def _predict(unet: nn.Module, x_t: Tensor, t: Tensor, lr: Tensor) -> Tensor:
    return unet(torch.cat([x_t, lr], dim=1), t, None, return_dict=False)[0].float()


def _randint(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (1,), generator=generator, device=generator.device))


def _randn_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=generator.device).to(x.device)
