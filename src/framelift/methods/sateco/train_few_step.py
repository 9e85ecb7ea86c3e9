"""Training of SATeCo's own handful of sampling steps, end to end in pixels; not in the paper.

Sampling runs as it will, without gradient up to a randomly drawn one of its steps; the estimate x̃₀
made there is decoded and refined, and X_H and X_d are compared with the truth: by Charbonnier loss,
by how they change from frame to frame, by LPIPS and, since LPIPS likes a grid, by their spectra. A
share of the clips keeps the loss of the stage `unet`, so that the UNet stays a denoiser at every
timestep. Everything behind X_u and the VAE's encoder is trained.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.codecs import KLCodec
from framelift.diffusion.draw import draw_timesteps, noise_of, normal, randint
from framelift.diffusion.losses import LUMA, PerceptualLoss, charbonnier, spectral_loss
from framelift.diffusion.parameterisation import add_noise, alpha_sigma, prediction_of, target
from framelift.errors import UsageError
from framelift.methods.base import Batch, Noise, StageRequest
from framelift.methods.sateco.build import build_pipeline
from framelift.methods.sateco.pipeline import SATeCoPipeline
from framelift.methods.sateco.settings import SATeCoSettings
from framelift.methods.sateco.train import Stage, StageSettings
from framelift.metrics.texture import grid_index


@dataclass(frozen=True)
class FewStepSettings:
    """Weights and shares of the loss terms."""

    timesteps: tuple[int, ...] = ()
    """Sampling steps to train, which the pipeline then uses (default: those it has)."""
    on_policy: float = 0.75
    """Share of the clips that are sampled; the others keep the denoising loss."""
    pixel_weight: float = 1.0
    """Weight of X_H's Charbonnier loss, in units of [0, 1]."""
    decoded_weight: float = 0.25
    """Weight of X_d's."""
    temporal_weight: float = 1.0
    """Weight of the absolute difference between how X_H and the truth change between frames."""
    perceptual_weight: float = 0.1
    """Weight of LPIPS (VGG16) of X_H; 0 leaves it out."""
    perceptual_crop: int = 128
    """Side of the square inside the crop on which LPIPS is computed, in pixels."""
    perceptual_share: float = 0.5
    """Share of the frames on which LPIPS is computed."""
    spectral_weight: float = 0.01
    """Weight of the difference of log power spectra of X_H."""


class FewStepSATeCo(nn.Module):
    """What the stage trains, as one call."""

    def __init__(self, pipeline: SATeCoPipeline) -> None:
        super().__init__()
        self.unet, self.decoder = pipeline.unet, pipeline.vae.decoder
        self.latent_encoder, self.refiner = pipeline.latent_encoder, pipeline.refiner
        self.unet_guidance, self.vae_guidance = pipeline.unet_guidance, pipeline.vae_guidance
        self._pipeline = [pipeline]  # in a list, its frozen networks are not this module's

    def forward(
        self,
        x_u: Tensor,
        frames: int,
        settings: SATeCoSettings,
        noise: Noise,
        stop: int,
        given: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """X_H and X_d `[B·L, 3, H, W]` at step `stop`, or the UNet's output for (x_t, t)."""
        pipeline = self._pipeline[0]
        with torch.no_grad():
            seen = pipeline.encode_enlarged(x_u)
        guidance = pipeline.guide_by(*seen, frames)
        context = pipeline.encode_prompt(settings)
        if given is not None:
            return (pipeline.denoise(*given, guidance, context),)
        steps = pipeline.sample(pipeline.sampler(settings), guidance, settings, noise)
        with torch.no_grad():
            for _ in range(stop):
                next(steps)
        _, estimate, _ = next(steps)
        x_d = pipeline.decode(estimate, guidance)
        return pipeline.refine(x_u, x_d), x_d


class FewStepStage(Stage):
    """The objective."""

    def __init__(self, pipeline: SATeCoPipeline, settings: FewStepSettings) -> None:
        if pipeline.refiner is None:
            raise UsageError("This pipeline has no refiner.", "Train the stage refiner first.")
        super().__init__(pipeline, StageSettings())
        self.own, self.sampling = settings, SATeCoSettings()
        if settings.timesteps:
            own = list(settings.timesteps)
            pipeline.register_to_config(timesteps=own, steps=len(own))
        self.lpips = None
        if settings.perceptual_weight:
            self.lpips = PerceptualLoss(settings.perceptual_crop, settings.perceptual_share)

    @property
    def trained(self) -> nn.Module:
        return FewStepSATeCo(self.pipeline)

    def to(self, device: torch.device) -> None:
        """Move the pipeline and the perceptual network."""
        super().to(device)
        if self.lpips is not None:
            self.lpips.to(device)

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch of clips and its terms."""
        own = round(len(batch.hr) * self.own.on_policy)
        with torch.no_grad():
            x_u = self.pipeline.enlarge(batch.lr)
        truth = batch.hr * 2 - 1
        terms: dict[str, Tensor] = {}
        if own:
            terms |= self.sampled_loss(network, x_u[:own], truth[:own], generator)
        if own < len(truth):
            terms |= self.denoising_loss(network, x_u[own:], truth[own:], generator)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    def sampled_loss(
        self, network: nn.Module, x_u: Tensor, truth: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of X_H and X_d, on the sampler's own trajectory."""
        own, frames = self.own, truth.shape[1]
        stop = randint(len(self.pipeline.sampler(self.sampling)), generator)
        noise = noise_of(generator, truth.device)
        x_h, x_d = network(x_u.flatten(0, 1), frames, self.sampling, noise, stop)
        flat = truth.flatten(0, 1)
        terms = {
            "pixel": own.pixel_weight * charbonnier(x_h / 2, flat / 2),
            "decoded": own.decoded_weight * charbonnier(x_d / 2, flat / 2),
        }
        if own.temporal_weight and frames > 1:
            change = x_h.reshape(truth.shape).diff(dim=1) / 2
            terms["temporal"] = own.temporal_weight * F.l1_loss(change, truth.diff(dim=1) / 2)
        if own.spectral_weight:
            terms["spectral"] = own.spectral_weight * spectral_loss(x_h, flat)
        if self.lpips is not None:
            every = slice(None, None, max(1, round(1 / own.perceptual_share)))
            terms["lpips"] = own.perceptual_weight * self.lpips(x_h[every], flat[every], generator)
        return terms

    def denoising_loss(
        self, network: nn.Module, x_u: Tensor, truth: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss of the stage `unet`."""
        scheduler, frames = self.pipeline.scheduler, truth.shape[1]
        with torch.no_grad():
            x0 = KLCodec(self.pipeline.vae).encode(truth.flatten(0, 1))
        drawn = normal((len(truth), frames, *x0.shape[1:]), x0.device, generator).flatten(0, 1)
        limit = scheduler.config["num_train_timesteps"]
        t = draw_timesteps(limit, len(truth), x0.device, generator).repeat_interleave(frames)
        alpha, sigma = alpha_sigma(scheduler.alphas_cumprod, t)
        x_t, noise = add_noise(x0, drawn, alpha, sigma), noise_of(generator, x0.device)
        (output,) = network(x_u.flatten(0, 1), frames, self.sampling, noise, 0, (x_t, t))
        kind = prediction_of(scheduler)
        return {kind: F.mse_loss(output, target(kind, x0, drawn, alpha, sigma))}

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, float]:
        """Grid index beside the truth's, and the change of a still clip in levels."""
        noise = noise_of(torch.Generator(batch.lr.device).manual_seed(0), batch.lr.device)
        lr, hr = batch.lr[0], batch.hr[0, 0]
        made = self.pipeline(lr, noise=noise)
        still = self.pipeline(lr[:1].expand_as(lr), noise=noise)
        found = {"still": float(still.diff(dim=0).square().mean().sqrt() * 255)}
        for name, picture in (("grid", made[0]), ("truth_grid", hr)):
            index = grid_index(_luma(picture))
            found |= {} if index is None else {name: index}
        return found


def _luma(picture: Tensor) -> np.ndarray:
    return (picture * picture.new_tensor(LUMA)[:, None, None]).sum(0).cpu().numpy()


def build(request: StageRequest) -> FewStepStage:
    """The objective of `few-step`."""
    settings = from_mapping(FewStepSettings, request.objective, "[objective]")
    if not isinstance(request.pipeline, SATeCoPipeline):
        raise UsageError(
            "The few-step stage trains a SATeCo.", "Name its preset or folder as init_from."
        )
    return FewStepStage(build_pipeline(request.model, request.pipeline), settings)
