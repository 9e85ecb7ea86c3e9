"""Training of the causal VAE: reconstruct clips of one segment.

Loss: mean absolute error of pixels in [-1, 1] and of their change from frame to frame, a little
LPIPS, and the Kullback-Leibler divergence to N(0, 1) per latent value. Since the VAE is causal, a
clip's
first frame is coded as a single picture is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.draw import normal
from framelift.diffusion.losses import PerceptualLoss
from framelift.methods.base import Batch, StageRequest
from framelift.methods.stcdit.build import attentions, build_pipeline, pipeline_of
from framelift.methods.stcdit.codec import SegmentCodec
from framelift.methods.stcdit.pipeline import STCDiTPipeline

SHOWN = 6  # clips in a sample picture


@dataclass(frozen=True)
class VAESettings:
    """Weights of the loss terms."""

    absolute_weight: float = 1.0
    """Weight of the mean absolute error."""
    change_weight: float = 0.0
    """Weight of the mean absolute error of the change from frame to frame."""
    kl_weight: float = 1e-6
    """Weight of the KL divergence, a mean over latent values, in nats."""
    perceptual_weight: float = 0.0
    """Weight of LPIPS (VGG16). Alone it asks for patterns of the network's stride; keep it small
    beside the absolute error."""
    perceptual_crop: int = 64
    """Side of the square inside the frame on which LPIPS is computed, in pixels."""
    perceptual_share: float = 1.0
    """Share of the frames on which LPIPS is computed."""
    freeze_attention: bool = False
    """Leave the attention in the middle of encoder and decoder as it is, such as silent."""


class VAEObjective:
    """Loss of the VAE on clips of one segment."""

    def __init__(self, pipeline: STCDiTPipeline, settings: VAESettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.lpips = None
        if settings.perceptual_weight:
            self.lpips = PerceptualLoss(settings.perceptual_crop, settings.perceptual_share)
        pipeline.vae.requires_grad_(True)
        if settings.freeze_attention:
            for attention in attentions(pipeline.vae):
                attention.requires_grad_(False)

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
        terms = self._terms(network, batch.hr * 2 - 1, generator)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    def _terms(
        self, network: nn.Module, x: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Weighted loss terms of clips `[B, T, 3, H, W]` in [-1, 1]."""
        weights = self.settings
        made, mean, logvar = (a.float() for a in network(x, generator))
        terms = {
            "absolute": weights.absolute_weight * F.l1_loss(made, x),
            "kl": weights.kl_weight * 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean(),
        }
        if weights.change_weight and x.shape[1] > 1:
            terms["change"] = weights.change_weight * F.l1_loss(made.diff(dim=1), x.diff(dim=1))
        if self.lpips is not None:
            frames = (a.transpose(0, 1).flatten(0, 1) for a in (made, x))  # a share is of all clips
            terms["lpips"] = weights.perceptual_weight * self.lpips(*frames, generator)
        return terms

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """Last frames of clips above their reconstructions `[3, H, W]`."""
        x = batch.hr[:SHOWN].to(self.pipeline._execution_device)
        codec = SegmentCodec(self.pipeline.vae, [range(x.shape[1])])
        made = (codec.decode(codec.encode(x * 2 - 1)) + 1) / 2
        rows = (x[:, -1], made[:, -1].clamp(0, 1))
        return torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)


class _Autoencoder(nn.Module):
    """Encode, sample, decode: one call, as distributed training wants it."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        codec = SegmentCodec(self.vae, [range(x.shape[1])])
        posterior = codec.posterior(x)
        drawn = normal(posterior.mean.shape, x.device, generator)
        z: Any = posterior.mean + posterior.std * drawn
        (made,) = self.vae.decode(z, return_dict=False)
        return made.transpose(1, 2)[:, : x.shape[1]], posterior.mean, posterior.logvar


def build(request: StageRequest) -> VAEObjective:
    """The objective of `vae`."""
    settings = from_mapping(VAESettings, request.objective, "[objective]")
    pipeline = pipeline_of(request.pipeline)
    return VAEObjective(pipeline or build_pipeline(request.model), settings)
