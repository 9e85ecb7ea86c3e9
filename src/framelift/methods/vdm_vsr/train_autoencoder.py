"""Training of the spatial VAE on the frames of a domain (section III; Kingma & Welling 2013).

Loss: mean absolute and squared error of the pixels in [-1, 1], LPIPS where wanted, and the
Kullback-Leibler divergence to N(0, 1) per latent value. No discriminator: the domains are small.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.codecs import KLCodec
from framelift.diffusion.draw import normal
from framelift.diffusion.losses import PerceptualLoss
from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.vdm_vsr.linear_autoencoder import LinearAutoencoderKL
from framelift.methods.vdm_vsr.pipeline import VDMVSRPipeline
from framelift.methods.vdm_vsr.train import pipeline_of


@dataclass(frozen=True)
class AutoencoderSettings:
    """Weights of the loss terms."""

    absolute_weight: float = 1.0
    """Weight of the mean absolute error."""
    squared_weight: float = 1.0
    """Weight of the mean squared error."""
    kl_weight: float = 1e-4
    """Weight of the KL divergence, a mean over latent values, in nats."""
    perceptual_weight: float = 0.0
    """Weight of LPIPS (VGG16)."""
    perceptual_crop: int = 64
    """Side of the square inside the frame on which LPIPS is computed, in pixels."""
    perceptual_share: float = 1.0
    """Share of the frames on which LPIPS is computed."""


class AutoencoderObjective:
    """Loss of the VAE; frames of a clip are samples of their weights."""

    def __init__(self, pipeline: VDMVSRPipeline, settings: AutoencoderSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.lpips = None
        if settings.perceptual_weight:
            self.lpips = PerceptualLoss(settings.perceptual_crop, settings.perceptual_share)
        pipeline.vae.requires_grad_(True)

    @property
    def trained(self) -> nn.Module:
        return _Autoencoder(self.pipeline.vae)

    def to(self, device: torch.device) -> None:
        """Move the perceptual network; the autoencoder is moved by the loop."""
        if self.lpips is not None:
            self.lpips.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing needs to be known of the data."""

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch and its terms."""
        weights = self.settings
        x = batch.hr.flatten(0, 1) * 2 - 1
        size = self.pipeline.latent_space.size(*x.shape[-2:])
        noise = normal((len(x), *size), x.device, generator)
        made, mean, logvar = (a.float() for a in network(x, noise))
        terms = {
            "absolute": weights.absolute_weight * F.l1_loss(made, x),
            "squared": weights.squared_weight * F.mse_loss(made, x),
            "kl": weights.kl_weight * 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean(),
        }
        if self.lpips is not None:
            terms["lpips"] = weights.perceptual_weight * self.lpips(made, x, generator)
        total = torch.stack(list(terms.values())).sum()
        errors = (made.detach().clamp(-1, 1) - x).square().flatten(1).mean(dim=1)
        terms["psnr"] = -10 * (errors / 4).clamp_min(1e-10).log10().mean()  # to be read, not a loss
        return total, {name: value.detach() for name, value in terms.items()}

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """Ground truth above its reconstruction `[3, H, W]`, one frame of every clip."""
        x, codec = batch.hr[:12, 0].to(self.pipeline._execution_device), self.pipeline.codec()
        made = (codec.decode(codec.encode(x * 2 - 1)) + 1) / 2
        return torch.cat([torch.cat(list(row), dim=-1) for row in (x, made)], dim=-2)


def build(request: StageRequest) -> AutoencoderObjective:
    """The objective of `autoencoder`."""
    settings = from_mapping(AutoencoderSettings, request.objective, "[objective]")
    pipeline = pipeline_of(request)
    if isinstance(pipeline.vae, LinearAutoencoderKL):
        raise UsageError(
            "A linear autoencoder is not trained.", "The stage prior fits it (fit_latents)."
        )
    return AutoencoderObjective(pipeline, settings)


class _Autoencoder(nn.Module):
    """Encode, sample with the given noise, decode: one call, as distributed training wants it."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = KLCodec(self.vae).posterior(x)
        z: Any = posterior.mean + posterior.std * noise
        (made,) = self.vae.decode(z, return_dict=False)
        return made, posterior.mean, posterior.logvar
