"""Training of the per-frame upscaler, in two stages.

`denoiser`: the usual diffusion loss (Rombach et al. 2022, eq. 2), with the scheduler's own target
(v for every preset here; Salimans & Ho 2022), at uniformly drawn timesteps. Text (the empty prompt)
and the noise level of the LR frames are as in sampling, for networks that take them.

`few-step`: makes the preset's handful of timesteps count. The sampler runs from pure noise to a
randomly chosen one of its own steps without gradient; the estimate x̃₀ made there (StableVSR eq. 6)
is decoded and compared with the truth, by pixel and by VGG16 features (LPIPS). Pixels, because the
block transform's latents weigh the noise of flat areas as much as edges. A share of every batch
keeps the loss of the first stage, so that the model stays a diffusion model at every timestep.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, SchedulerMixin, UNet2DConditionModel
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.diffusion.codecs import latent_space
from framelift.diffusion.draw import draw_timesteps, noise_of, normal, randint
from framelift.diffusion.losses import PerceptualLoss, spectral_loss
from framelift.diffusion.parameterisation import add_noise, alpha_sigma, prediction_of, target
from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.image_ldm.pipeline import Conditioning, ImageLDMPipeline
from framelift.methods.image_ldm.settings import ImageLDMSettings


@dataclass(frozen=True)
class ObjectiveSettings:
    """Weights and shares of the loss terms."""

    fit_codec: bool = False
    """Measure the block transform's channel deviations on the first crops."""
    timesteps: tuple[int, ...] = ()
    """Sampling steps that the few-step stage trains, and the pipeline then uses (default: the steps
    of the pipeline that training starts from)."""
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
    spectral_weight: float = 0.0
    """Weight of the difference of log power spectra of the decoded x̃₀ on the trajectory: LPIPS
    without it makes a grid."""


class ImageLDMObjective:
    """Loss of the UNet; codec and text encoder are fixed."""

    def __init__(self, pipeline: ImageLDMPipeline, settings: ObjectiveSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.sampling = ImageLDMSettings()
        self.context: Tensor | None = None
        for network in (pipeline.vae, pipeline.text_encoder):
            if network is not None:
                network.requires_grad_(False)
        self.lpips = None
        if settings.perceptual_weight:
            self.lpips = PerceptualLoss(settings.perceptual_crop, settings.perceptual_share)

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.unet

    def to(self, device: torch.device) -> None:
        """Move what is fixed; the trained network is moved by the loop."""
        for network in (self.pipeline.vae, self.pipeline.text_encoder, self.lpips):
            if network is not None:
                network.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Measure what the codec needs to know of the data, before the first step."""
        if self.settings.fit_codec and isinstance(self.pipeline.vae, BlockTransformCodec):
            some = list(batches)
            hr, lr = (torch.cat([getattr(b, n)[:, 0] for b in some]) for n in ("hr", "lr"))
            self.pipeline.vae.fit(hr * 2 - 1, lr * 2 - 1)

    def loss(
        self, unet: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch and its terms."""
        hr, lr = batch.hr[:, 0] * 2 - 1, batch.lr[:, 0] * 2 - 1
        own = round(len(hr) * self.settings.on_policy)
        terms: dict[str, Tensor] = {}
        if own < len(hr):
            kind = prediction_of(self.pipeline.scheduler)
            name = "v" if kind == "v_prediction" else kind
            terms[name] = self.denoising_loss(unet, hr[own:], lr[own:], generator)
        if own:
            terms |= self.few_step_loss(unet, hr[:own], lr[:own], generator)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    def denoising_loss(
        self, unet: nn.Module, hr: Tensor, lr: Tensor, generator: torch.Generator
    ) -> Tensor:
        """‖network(x_t, t, LR) - target‖², t uniform; the target is the scheduler's."""
        scheduler = self.pipeline.scheduler
        with torch.no_grad():
            x0 = self.pipeline.codec(lr).encode(hr, generator)
            beside = self.beside(lr, generator)
        noise = normal(x0.shape, x0.device, generator)
        t = draw_timesteps(scheduler.config["num_train_timesteps"], len(x0), x0.device, generator)
        alpha, sigma = alpha_sigma(scheduler.alphas_cumprod, t)
        x = torch.cat([add_noise(x0, noise, alpha, sigma), beside.frames], dim=1)
        output = self.pipeline.denoise(x, t, beside.context, beside.label, self.sampling, unet=unet)
        return F.mse_loss(output, target(prediction_of(scheduler), x0, noise, alpha, sigma))

    def few_step_loss(
        self, unet: nn.Module, hr: Tensor, lr: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of x̃₀ at one of the sampler's own steps, on its own trajectory."""
        pipeline = self.pipeline
        sampler = pipeline.sampler(self.sampling)
        stop = randint(len(sampler), generator)
        start = normal((len(lr), *pipeline.latent_size(lr)), lr.device, generator)
        with torch.no_grad():
            beside = self.beside(lr, generator)
        noise = noise_of(generator, lr.device)
        steps = pipeline.sample(sampler, start, beside, self.sampling, noise, unet=unet)
        with torch.no_grad():
            for _ in range(stop):
                next(steps)
        _, estimate = next(steps)
        picture = pipeline.codec(lr).decode(estimate)
        terms = {"pixel": self.settings.pixel_weight * F.l1_loss(picture, hr)}
        if self.settings.spectral_weight:
            terms["spectral"] = self.settings.spectral_weight * spectral_loss(picture, hr)
        if self.lpips is not None:
            weight = self.settings.perceptual_weight
            terms["lpips"] = weight * self.lpips(picture, hr, generator)
        return terms

    def beside(self, lr: Tensor, generator: torch.Generator) -> Conditioning:
        """What the UNet gets beside x_t, as in sampling: LR frames, the empty prompt, the label."""
        if self.context is None:
            self.context = self.pipeline.encode_prompt(self.sampling)
        noise = noise_of(generator, lr.device)
        condition, label = self.pipeline.condition(lr, self.sampling, noise)
        return Conditioning(condition, self.context, label)


def build(request: StageRequest) -> ImageLDMObjective:
    """The objective of `denoiser` or `few-step`."""
    settings = from_mapping(ObjectiveSettings, request.objective, "[objective]")
    has_steps = settings.timesteps or request.pipeline is not None
    if request.stage == "few-step" and not (has_steps and settings.on_policy):
        raise UsageError(
            "The few-step stage trains the sampler's own steps.", "Set timesteps and on_policy."
        )
    pipeline = request.pipeline
    if pipeline is None:
        return ImageLDMObjective(build_pipeline(request.model, settings.timesteps), settings)
    if not isinstance(pipeline, ImageLDMPipeline):
        raise UsageError(
            f"A {type(pipeline).__name__} is not a per-frame upscaler.",
            "Name a preset or folder of image-ldm as init_from.",
        )
    if settings.timesteps:
        own = list(settings.timesteps)
        pipeline.register_to_config(timesteps=own, steps=len(own))
    return ImageLDMObjective(pipeline, settings)


def build_pipeline(
    model: Mapping[str, Mapping[str, Any]], timesteps: tuple[int, ...]
) -> ImageLDMPipeline:
    """New components from a recipe's configuration, with random weights.

    `vae` is a `BlockTransformCodec`, or an `AutoencoderKL` where its table has
    `type = "AutoencoderKL"`; `scheduler` may name another class of diffusers the same way.
    `low_res_scheduler` (DDPM) belongs to a UNet with `num_class_embeds`.
    """
    vae_config = dict(model["vae"])
    kinds = {"BlockTransformCodec": BlockTransformCodec, "AutoencoderKL": AutoencoderKL}
    kind = vae_config.pop("type", "BlockTransformCodec")
    if kind not in kinds:
        raise UsageError(f"[model.vae] type is {kind!r}.", f"Known are {', '.join(kinds)}.")
    vae: Any = kinds[kind](**vae_config)
    latents = latent_space(vae)
    unet_config = {
        "in_channels": latents.channels + latents.condition_channels,
        "out_channels": latents.channels,
        **model["unet"],
    }
    low_res = model.get("low_res_scheduler")
    return ImageLDMPipeline(
        vae,
        UNet2DConditionModel(**unet_config),
        _scheduler(model["scheduler"]),
        low_res_scheduler=None if low_res is None else DDPMScheduler(**low_res),
        timesteps=list(timesteps) or None,
        steps=len(timesteps) or 20,
    )


def _scheduler(config: Mapping[str, Any]) -> SchedulerMixin:
    options = dict(config)
    name = options.pop("type", "DPMSolverMultistepScheduler")
    kind = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if not isinstance(kind, type) or not issubclass(kind, SchedulerMixin):
        raise UsageError(
            f"[model.scheduler] type is {name!r}.", "Name a scheduler class of diffusers."
        )
    return kind(**options)
