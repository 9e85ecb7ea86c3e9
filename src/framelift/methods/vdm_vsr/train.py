"""Training of the prior: an unconditional video diffusion model of latents (sections II-C and III).

L_hybrid of Nichol & Dhariwal (2021) as Open-Sora computes it: mean squared error of ε plus the
variational term, in bits per value, whose mean is detached so that it trains the variance alone.
At t = 0 that term would be the likelihood of a pixel's 8-bit bin, which latents do not have, and is
left out. `variance_weight` 0 with a network without `learn_sigma` is L_simple (Ho et al. 2020).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.draw import draw_timesteps, normal
from framelift.diffusion.parameterisation import Prediction, add_noise, prediction_of
from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.vdm_vsr.linear_autoencoder import LinearAutoencoderKL
from framelift.methods.vdm_vsr.local_autoencoder import LocalAutoencoderKL
from framelift.methods.vdm_vsr.pipeline import VDMVSRPipeline
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.methods.vdm_vsr.transition import Transition, normal_kl
from framelift.metrics.persistence import shape_persistence
from framelift.ops.noise import PositionNoise

SHOWN_CLIPS, SHOWN_STEPS = 4, 100  # unconditional samples drawn at every validation
MEASURED_STEPS = 50  # of those whose shapes are measured
MEASURED_BATCHES = 4  # whose first frames tell the latents' mean and deviation


@dataclass(frozen=True)
class PriorSettings:
    """The prior's loss."""

    variance_weight: float = 1.0
    """Weight of the variational term that trains the variance; 0 leaves it out."""
    min_snr: float = 0.0
    """γ of min-SNR weighting (Hang et al. 2023), which makes a short training learn shapes sooner:
    the squared error of Z_0 counts min(SNR, γ) times; 0 weighs what the network predicts alike at
    all timesteps, as the paper's code does."""
    weight_floor: float = 0.0
    """Added to min(SNR, γ), so that the noisiest timesteps count; with 1 the weights are, up to
    γ, those of predicting velocities."""
    fit_latents: bool = False
    """Measure the latents' mean and deviation on the first clips and write them to the VAE's
    configuration, so that the diffusion sees zero mean and unit variance; a linear VAE is first
    fitted to these clips."""
    measured_clips: int = 0
    """Unconditional samples that every validation draws to measure whether shapes persist (see
    `metrics.persistence`, for clips of Moving MNIST); 0 for none."""


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
        vae, codec = self.pipeline.vae, self.pipeline.codec()
        if isinstance(vae, LinearAutoencoderKL):
            frames = [batch.hr.flatten(0, 1) * 2 - 1 for batch in batches]
            vae.fit(frames)
        else:  # a mean and a deviation want far fewer, and a network on the CPU is slow
            frames = [batch.hr[:, 0] * 2 - 1 for batch in islice(batches, MEASURED_BATCHES)]
        with torch.no_grad():
            found = [codec.posterior(x) for x in frames]
        means = torch.cat([posterior.mean for posterior in found])
        variance = means.var() + torch.cat([posterior.var for posterior in found]).mean()
        vae.register_to_config(
            shift_factor=float(means.mean()), scaling_factor=float(variance) ** -0.5
        )

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch of clips and its terms."""
        z0 = self.encode(batch.hr, generator)
        t = draw_timesteps(
            self.pipeline.scheduler.config["num_train_timesteps"], len(z0), z0.device, generator
        )
        epsilon = normal(z0.shape, z0.device, generator)
        step = Transition(self.pipeline.scheduler.alphas_cumprod, t, t - 1)
        z_t = add_noise(z0, epsilon, step.alpha_bar.sqrt(), (1 - step.alpha_bar).sqrt())
        predicted, v = split(network(z_t, t).float(), z0.shape[1])
        kind = prediction_of(self.pipeline.scheduler)
        error = (predicted - step.target(z0, epsilon, kind)).square().flatten(1).mean(dim=1)
        terms = {kind: (error * self.weight(step.alpha_bar, kind)).mean()}
        if v is not None and self.settings.variance_weight:
            bits = variational_bits(step, z_t, z0, step.z0(z_t, predicted.detach(), kind), v)
            kept = (t > 0).to(bits)
            terms["variance"] = self.settings.variance_weight * (bits * kept).mean()
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    def weight(self, alpha_bar: Tensor, kind: Prediction) -> Tensor:
        """How much the squared error of a prediction of this kind counts, `[B]`."""
        if not self.settings.min_snr:
            return torch.ones_like(alpha_bar)
        snr = alpha_bar / (1 - alpha_bar)
        of_z0 = snr.clamp(max=self.settings.min_snr) + self.settings.weight_floor
        return of_z0 / {"epsilon": snr, "sample": 1, "v_prediction": snr + 1}[kind]

    @torch.no_grad()
    def encode(self, hr: Tensor, generator: torch.Generator) -> Tensor:
        """Latents `[B, c, T, h, w]` of clips `[B, T, 3, H, W]` in [0, 1], drawn from the VAE."""
        z = self.pipeline.codec().encode(hr.flatten(0, 1) * 2 - 1, generator)
        return z.unflatten(0, hr.shape[:2]).transpose(1, 2)

    def measure(self, batch: Batch) -> dict[str, float]:
        """Shape persistence of samples, and that of the held-out `batch` `[B, T, 3, H, W]`."""
        if not self.settings.measured_clips:
            return {}
        drawn = self._samples(batch, self.settings.measured_clips, MEASURED_STEPS)
        made, truth = (shape_persistence(grey(clips)) for clips in (drawn, batch.hr))
        found = {
            "persistence": made.score,
            "persistence_unrelated": made.unrelated,
            "persistence_of_truth": truth.score,
            "digits_a_clip": made.digits / made.clips,
            "digits_a_clip_of_truth": truth.digits / truth.clips,
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """Unconditional samples `[3, H, W]`: a clip a row, its frames side by side."""
        clips = self._samples(batch, SHOWN_CLIPS, SHOWN_STEPS)
        return torch.cat([torch.cat(list(clip), dim=-1) for clip in clips], dim=-2)

    def _samples(self, batch: Batch, count: int, steps: int) -> Tensor:
        """Samples of the prior in [0, 1], `count` clips like those of `batch`."""
        _, frames, _, height, width = batch.hr.shape
        block = self.pipeline.limits.noise_block
        made = self.pipeline.sample(
            None,
            (frames, height, width),
            settings=VDMVSRSettings(steps=steps),
            noises=[PositionNoise(i, block=block) for i in range(count)],
        )
        return ((made + 1) / 2).clamp(0, 1)


def grey(clips: Tensor) -> list[np.ndarray]:
    """Clips `[B, T, 3, H, W]` in [0, 1] as uint8 `[T, H, W]` each."""
    return list((clips.mean(dim=2) * 255).round().byte().cpu().numpy())


def variational_bits(
    step: Transition, z_t: Tensor, z0: Tensor, estimate: Tensor, v: Tensor
) -> Tensor:
    """KL of the true reverse step and of the model's, which estimates Z_0: bits per value `[B]`."""
    true_mean, true_log = step.mean(z_t, z0), step.log_variance(None, z_t)
    mean, log_variance = step.mean(z_t, estimate), step.log_variance(v, z_t)
    return normal_kl(true_mean, true_log, mean, log_variance).flatten(1).mean(1) / math.log(2)


def split(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """The prediction and v in a network's output `[B, c or 2c, ...]`."""
    if output.shape[1] == channels:
        return output, None
    predicted, v = output.chunk(2, dim=1)
    return predicted, v


def build(request: StageRequest) -> PriorObjective:
    """The objective of `prior`."""
    settings = from_mapping(PriorSettings, request.objective, "[objective]")
    pipeline = pipeline_of(request)
    if pipeline.transformer is None:
        pipeline.register_modules(transformer=STDiT(**request.model["transformer"]))
    return PriorObjective(pipeline, settings)


def pipeline_of(request: StageRequest) -> VDMVSRPipeline:
    """The pipeline whose prior or autoencoder shall be trained."""
    pipeline = request.pipeline
    if pipeline is None:
        return build_pipeline(request.model)
    if not isinstance(pipeline, VDMVSRPipeline):
        raise UsageError(
            f"A {type(pipeline).__name__} has no video diffusion prior.",
            "Name a preset or folder of vdm-vsr as init_from.",
        )
    return pipeline


def build_pipeline(model: Mapping[str, Any]) -> VDMVSRPipeline:
    """A pipeline with an untrained VAE and, where `model` describes one, an untrained prior.

    `vae` holds arguments of `AutoencoderKL`; `local_norm` makes it a `LocalAutoencoderKL`, which
    may have a `patch_size`, `linear` a `LinearAutoencoderKL`. `prediction_type` is the scheduler's.
    """
    scheduler = DDPMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        variance_type="learned_range",
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type=model.get("prediction_type", "epsilon"),
    )
    transformer = STDiT(**model["transformer"]) if "transformer" in model else None
    return VDMVSRPipeline(_build_vae(dict(model["vae"])), scheduler, transformer)


def _build_vae(config: dict[str, Any]) -> AutoencoderKL | LinearAutoencoderKL:
    if config.pop("linear", False):
        return LinearAutoencoderKL(**config)
    levels = len(config["block_out_channels"])
    blocks = {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }
    if not config.pop("local_norm", False):
        return AutoencoderKL(**blocks, **config)
    folded = 3 * config.get("patch_size", 1) ** 2
    ends = {"in_channels": folded, "out_channels": folded}
    return LocalAutoencoderKL(**blocks, **ends, **config)
