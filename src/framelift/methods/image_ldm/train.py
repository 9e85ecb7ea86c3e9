"""Training of the per-frame upscaler, in two stages.

`denoiser`: the usual diffusion loss (Rombach et al. 2022, eq. 2), with the scheduler's own target
(v for every preset here; Salimans & Ho 2022), at uniformly drawn timesteps.

`few-step`: makes the preset's handful of timesteps count. The sampler runs from pure noise to a
randomly chosen one of its own steps without gradient; the estimate x̃₀ made there (StableVSR eq. 6)
is decoded and compared with the truth, by pixel and by VGG16 features (LPIPS). Pixels, because the
block transform's latents weigh the noise of flat areas as much as edges. A share of every batch
keeps the loss of the first stage, so that the model stays a diffusion model at every timestep.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin, UNet2DConditionModel
from torch import Tensor, nn

from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.diffusion.draw import draw_timesteps, normal, randint
from framelift.diffusion.losses import PerceptualLoss
from framelift.methods.base import Batch
from framelift.methods.image_ldm.pipeline import ImageLDMPipeline


@dataclass(frozen=True)
class ObjectiveSettings:
    """Weights and shares of the loss terms."""

    fit_codec: bool = False
    """Measure the block transform's channel deviations on the first crops."""
    timesteps: tuple[int, ...] = ()
    """Sampling steps that the few-step stage trains, and the pipeline then uses."""
    on_policy: float = 0.0
    """Share of the batch that the few-step stage takes from the sampler's own trajectory."""
    pixel_weight: float = 1.0
    """Weight of the decoded x̃₀'s absolute error, in [-1, 1], on the trajectory."""
    perceptual_weight: float = 0.0
    """Weight of LPIPS (VGG16) of the decoded x̃₀ on the trajectory."""
    perceptual_crop: int = 64
    """Side of the square inside the crop on which LPIPS is computed, in pixels."""
    perceptual_share: float = 1.0
    """Share of the trajectory's crops on which LPIPS is computed."""


class ImageLDMObjective:
    """Loss of the UNet; the codec is fixed."""

    def __init__(self, pipeline: ImageLDMPipeline, settings: ObjectiveSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.codec = pipeline.codec
        self.scheduler: Any = pipeline.scheduler
        self.lpips = None
        if settings.perceptual_weight:
            self.lpips = PerceptualLoss(settings.perceptual_crop, settings.perceptual_share)

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.unet

    def to(self, device: torch.device) -> None:
        """Move the codec and the perceptual network; the trained network is moved by the loop."""
        self.pipeline.vae.to(device)
        if self.lpips is not None:
            self.lpips.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Measure what the codec needs to know of the data, before the first step."""
        if self.settings.fit_codec and isinstance(self.pipeline.vae, BlockTransformCodec):
            some = list(batches)
            hr, lr = (torch.cat([getattr(b, n)[:, 0] for b in some]) for n in ("hr", "lr"))
            self.pipeline.vae.fit(hr * 2 - 1, lr * 2 - 1)

    def loss(
        self, unet: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch and its terms."""
        hr, lr = batch.hr[:, 0] * 2 - 1, batch.lr[:, 0] * 2 - 1
        x0, condition = self.codec.to_latents(hr, lr), self.codec.condition(lr)
        own = round(len(x0) * self.settings.on_policy)
        terms: dict[str, Tensor] = {}
        if own < len(x0):
            terms["v"] = self.denoising_loss(unet, x0[own:], condition[own:], generator)
        if own:
            terms |= self.few_step_loss(unet, hr[:own], lr[:own], condition[:own], generator)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: float(value.detach()) for name, value in terms.items()}

    def denoising_loss(
        self, unet: nn.Module, x0: Tensor, condition: Tensor, generator: torch.Generator
    ) -> Tensor:
        """‖v_θ(x_t, t, LR) − v‖², t uniform."""
        noise = normal(x0.shape, x0.device, generator)
        steps = self.scheduler.config.num_train_timesteps
        t = draw_timesteps(steps, len(x0), x0.device, generator)
        alpha, sigma = self.pipeline.alpha_sigma(t)
        x_t = alpha * x0 + sigma * noise
        return F.mse_loss(_predict(unet, x_t, t, condition), alpha * noise - sigma * x0)

    def few_step_loss(
        self, unet: nn.Module, hr: Tensor, lr: Tensor, condition: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of x̃₀ at one of the sampler's own steps, on its own trajectory."""
        sampler: Any = DPMSolverMultistepScheduler.from_config(self.scheduler.config)
        sampler.set_timesteps(timesteps=list(self.settings.timesteps))
        stop = randint(len(sampler.timesteps), generator)
        size = (len(lr), self.codec.latent_channels, *lr.shape[-2:])
        x_t = normal(size, lr.device, generator)
        with torch.no_grad():
            for t in sampler.timesteps[:stop]:
                v = _predict(unet, x_t, t.to(lr.device).expand(len(lr)), condition)
                x_t = sampler.step(v, t, x_t).prev_sample
        t = sampler.timesteps[stop].to(lr.device).expand(len(lr))
        v = _predict(unet, x_t, t, condition)
        picture = self.codec.to_frames(self.pipeline.estimate(v, x_t, t), lr)
        terms = {"pixel": self.settings.pixel_weight * F.l1_loss(picture, hr)}
        if self.lpips is not None:
            weight = self.settings.perceptual_weight
            terms["lpips"] = weight * self.lpips(picture, hr, generator)
        return terms


def build_pipeline(
    model: dict[str, dict[str, Any]], timesteps: tuple[int, ...]
) -> ImageLDMPipeline:
    """New components from a recipe's configuration, with random weights."""
    vae = BlockTransformCodec(**model["vae"])
    unet_config = {
        "in_channels": vae.latent_channels + vae.condition_channels,
        "out_channels": vae.latent_channels,
        **model["unet"],
    }
    unet = UNet2DConditionModel(**unet_config)
    scheduler: SchedulerMixin = DPMSolverMultistepScheduler(**model["scheduler"])
    return ImageLDMPipeline(
        vae, unet, scheduler, timesteps=list(timesteps) or None, steps=len(timesteps) or 20
    )


def _predict(unet: nn.Module, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    return unet(torch.cat([x_t, condition], dim=1), t, None, return_dict=False)[0].float()
