"""Training of the prior: an unconditional video diffusion model of latents (sections II-C and III).

L_hybrid of Nichol & Dhariwal (2021) as Open-Sora computes it: mean squared error of ε plus the
variational term, in bits per value, whose mean is detached so that it trains the variance alone.
At t = 0 that term would be the likelihood of a pixel's 8-bit bin, which latents do not have, and is
left out. `variance_weight` 0 with a network without `learn_sigma` is L_simple (Ho et al. 2020).
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor, nn

from framelift.data.crops import Batch
from framelift.methods.vdm_vsr.pipeline import VDMVSRPipeline
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.methods.vdm_vsr.transition import Transition, normal_kl
from framelift.models.draw import draw_timesteps, normal
from framelift.models.local_autoencoder import LocalAutoencoderKL

SHOWN_CLIPS, SHOWN_STEPS = 4, 100  # unconditional samples drawn at every validation


@dataclass(frozen=True)
class PriorSettings:
    """The prior's loss."""

    variance_weight: float = 1.0
    """Weight of the variational term that trains the variance; 0 leaves it out."""
    min_snr: float = 0.0
    """γ of min-SNR weighting (Hang et al. 2023), which makes a short training learn shapes sooner:
    each timestep counts min(SNR, γ)/SNR; 0 weighs all alike, as the paper's code does."""
    fit_latents: bool = False
    """Measure the latents' mean and deviation on the first clips and write them to the VAE's
    configuration, so that the diffusion sees zero mean and unit variance."""


class PriorObjective:
    """Loss of the transformer; the VAE is fixed."""

    def __init__(self, pipeline: VDMVSRPipeline, settings: PriorSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        pipeline.vae.requires_grad_(False)
        self.trained.requires_grad_(True)

    @property
    def trained(self) -> nn.Module:
        assert self.pipeline.transformer is not None
        return self.pipeline.transformer

    def to(self, device: torch.device) -> None:
        """Move the VAE; the trained network is moved by the loop."""
        self.pipeline.vae.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Measure the latents, before the first step."""
        if not self.settings.fit_latents:
            return
        vae, codec = self.pipeline.vae, self.pipeline.codec
        with torch.no_grad():
            found = [codec.posterior(b.hr.flatten(0, 1) * 2 - 1) for b in batches]
        means = torch.cat([posterior.mean for posterior in found])
        variance = means.var() + torch.cat([posterior.var for posterior in found]).mean()
        vae.register_to_config(
            shift_factor=float(means.mean()), scaling_factor=float(variance) ** -0.5
        )

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch of clips and its terms."""
        z0 = self.encode(batch.hr, generator)
        t = draw_timesteps(
            self.pipeline.scheduler.config["num_train_timesteps"], len(z0), z0.device, generator
        )
        epsilon = normal(z0.shape, z0.device, generator)
        step = Transition(self.pipeline.scheduler.alphas_cumprod, t, t - 1)
        alpha_bar = step.alpha_bar.reshape(-1, 1, 1, 1, 1)
        z_t = alpha_bar.sqrt() * z0 + (1 - alpha_bar).sqrt() * epsilon
        predicted, v = split(network(z_t, t).float(), z0.shape[1])
        error = (predicted - epsilon).square().flatten(1).mean(dim=1)
        terms = {"epsilon": (error * self.weight(step.alpha_bar)).mean()}
        if v is not None and self.settings.variance_weight:
            bits = variational_bits(step, z_t, z0, predicted.detach(), v)
            kept = (t > 0).to(bits)
            terms["variance"] = self.settings.variance_weight * (bits * kept).mean()
        total = torch.stack(list(terms.values())).sum()
        return total, {name: float(value.detach()) for name, value in terms.items()}

    def weight(self, alpha_bar: Tensor) -> Tensor:
        """How much a timestep counts, `[B]`."""
        if not self.settings.min_snr:
            return torch.ones_like(alpha_bar)
        snr = alpha_bar / (1 - alpha_bar)
        return snr.clamp(max=self.settings.min_snr) / snr

    @torch.no_grad()
    def encode(self, hr: Tensor, generator: torch.Generator) -> Tensor:
        """Latents `[B, c, T, h, w]` of clips `[B, T, 3, H, W]` in [0, 1], drawn from the VAE."""
        posterior = self.pipeline.codec.posterior(hr.flatten(0, 1) * 2 - 1)
        z = posterior.mean + posterior.std * normal(posterior.mean.shape, hr.device, generator)
        return self.pipeline.codec.normalise(z.float()).unflatten(0, hr.shape[:2]).transpose(1, 2)

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """Unconditional samples `[3, H, W]`: a clip a row, its frames side by side."""
        frames, height, width = batch.hr.shape[1], *batch.hr.shape[-2:]
        codec = self.pipeline.codec
        f = codec.factor
        size = (SHOWN_CLIPS, codec.latent_channels, frames, height // f, width // f)
        generator = torch.Generator().manual_seed(0)
        scheduler: Any = copy.deepcopy(self.pipeline.scheduler)
        scheduler.set_timesteps(SHOWN_STEPS)
        z = torch.randn(size, generator=generator).to(batch.hr.device)
        for t in scheduler.timesteps:
            output = self.trained(z, t.to(z.device)).float()
            z = scheduler.step(output, t, z, generator=generator).prev_sample
        made = (codec.to_frames(z.transpose(1, 2).flatten(0, 1), batch.hr[:, 0]) + 1) / 2
        clips = made.clamp(0, 1).unflatten(0, (SHOWN_CLIPS, frames))
        return torch.cat([torch.cat(list(clip), dim=-1) for clip in clips], dim=-2)


def variational_bits(
    step: Transition, z_t: Tensor, z0: Tensor, epsilon: Tensor, v: Tensor
) -> Tensor:
    """KL of the true reverse step and the model's, in bits per value `[B]`."""
    true_mean, true_log = step.mean(z_t, z0), step.log_variance(None, z_t)
    mean, log_variance = step.mean(z_t, step.z0(z_t, epsilon)), step.log_variance(v, z_t)
    return normal_kl(true_mean, true_log, mean, log_variance).flatten(1).mean(1) / math.log(2)


def split(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """ε and v of a network's output `[B, c or 2c, ...]`."""
    if output.shape[1] == channels:
        return output, None
    epsilon, v = output.chunk(2, dim=1)
    return epsilon, v


def build_pipeline(model: dict[str, Any]) -> VDMVSRPipeline:
    """A pipeline with an untrained VAE and, where `model` describes one, an untrained prior.

    `vae` holds arguments of `AutoencoderKL`; `local_norm` makes it a `LocalAutoencoderKL`.
    """
    config = dict(model["vae"])
    levels = len(config["block_out_channels"])
    blocks = {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }
    kind = LocalAutoencoderKL if config.pop("local_norm", False) else AutoencoderKL
    vae = kind(**blocks, **config)
    scheduler = DDPMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        variance_type="learned_range",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    transformer = STDiT(**model["transformer"]) if "transformer" in model else None
    return VDMVSRPipeline(vae, scheduler, transformer)
