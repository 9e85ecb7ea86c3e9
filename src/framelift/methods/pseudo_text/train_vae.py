"""The bundled autoencoder in two stages: `vae`, the plain one, and `sft`, its guided decoder.

`vae`: mean absolute error of the pixels and the Kullback-Leibler divergence (Kingma & Welling).
`sft`: encoder and latents stay as they are; a new decoder, which starts from the plain one, learns
to use the LR frames as well. Its latents are those of the true frames with noise of a random
share of their deviation, and for some clips those of the enlarged LR frames: what the UNet will
make lies between the two.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.draw import normal
from framelift.diffusion.losses import PerceptualLoss
from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.pseudo_text.build import build_pipeline, new_vae
from framelift.methods.pseudo_text.pipeline import PseudoTextPipeline
from framelift.methods.pseudo_text.sft_vae import SFTAutoencoderKL
from framelift.methods.pseudo_text.temporal import set_frames
from framelift.ops.resize import upscale

SHOWN = 8


@dataclass(frozen=True)
class DecoderSettings:
    """Weights of the loss terms, and the latents of the stage `sft`."""

    kl_weight: float = 1e-5
    """Weight of the KL divergence, a mean over latent values, in nats (stage vae)."""
    spectral_weight: float = 0.0
    """Weight of the difference of log power spectra: detail of the right strength, no pattern."""
    perceptual_weight: float = 0.0
    """Weight of LPIPS (VGG16); never without the spectral term, or a grid appears."""
    perceptual_crop: int = 96
    """Side of the square inside the crop on which LPIPS is computed, in pixels."""
    perceptual_share: float = 0.5
    """Share of the frames on which LPIPS is computed."""
    latent_noise: float = 0.6
    """Largest deviation of the noise on the latents, in units of theirs (stage sft)."""
    enlarged_share: float = 0.3
    """Share of the clips with the latents of the enlarged LR frames (stage sft)."""


class AutoencoderStage:
    """What both stages share; frames of a clip stay together in the batch."""

    def __init__(self, pipeline: PseudoTextPipeline, settings: DecoderSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.lpips = None
        if settings.perceptual_weight:
            share = settings.perceptual_share
            self.lpips = PerceptualLoss(settings.perceptual_crop, share)

    @property
    def vae(self) -> SFTAutoencoderKL:
        vae: Any = self.pipeline.vae
        return vae

    def to(self, device: torch.device) -> None:
        """Move the autoencoder and the perceptual network."""
        nn.Module.to(self.vae, device)
        if self.lpips is not None:
            self.lpips.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing depends on the data."""

    def compare(self, made: Tensor, truth: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of pictures `[N, 3, H, W]` in [-1, 1]."""
        terms = {"absolute": F.l1_loss(made, truth)}
        if self.settings.spectral_weight:
            terms["spectral"] = self.settings.spectral_weight * spectral_loss(made, truth)
        if self.lpips is not None:
            weight = self.settings.perceptual_weight
            terms["lpips"] = weight * self.lpips(made, truth, generator)
        return terms


class VAEStage(AutoencoderStage):
    """Encoder and plain decoder."""

    @property
    def trained(self) -> nn.Module:
        return _Autoencoder(self.vae)

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch and its terms."""
        truth = batch.hr.flatten(0, 1) * 2 - 1
        factor = self.pipeline.scale
        size = (len(truth), self.vae.config["latent_channels"], *_shrunk(truth, factor))
        noise = normal(size, truth.device, generator)
        made, mean, logvar = (x.float() for x in network(truth, noise, batch.hr.shape[1]))
        terms = self.compare(made, truth, generator)
        terms["kl"] = self.settings.kl_weight * _kl(mean, logvar)
        return _sum(terms)

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """The truth above its reconstruction `[3, H, W]`."""
        truth = batch.hr[:SHOWN, 0].to(self.vae.device)
        set_frames(self.vae, 1)
        posterior: Any = self.vae.encode(truth * 2 - 1, return_dict=False)[0]
        (made,) = self.vae.decode(posterior.mean, return_dict=False)
        return _rows(truth, (made + 1) / 2)


class SFTStage(AutoencoderStage):
    """The guided decoder."""

    def __init__(self, pipeline: PseudoTextPipeline, settings: DecoderSettings) -> None:
        super().__init__(pipeline, settings)
        self.vae.requires_grad_(False)
        self.trained.requires_grad_(True)

    @property
    def trained(self) -> nn.Module:
        return _GuidedDecoder(self.vae)

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch and its terms."""
        frames = batch.hr.shape[1]
        lr, truth = (x.flatten(0, 1) * 2 - 1 for x in (batch.lr, batch.hr))
        latents = self.latents(truth, lr, frames, generator)
        made = network(latents, lr, frames).float()
        return _sum(self.compare(made, truth, generator))

    @torch.no_grad()
    def latents(self, truth: Tensor, lr: Tensor, frames: int, generator: torch.Generator) -> Tensor:
        """Latents that the UNet might make, for clips of `frames` side by side."""
        set_frames(self.vae, frames)
        clips = len(truth) // frames
        own = round(clips * self.settings.enlarged_share) * frames
        pictures = truth
        if own:
            enlarged = upscale(lr[:own].float(), truth.shape[-1] // lr.shape[-1])
            pictures = torch.cat([enlarged, truth[own:]])
        posterior: Any = self.vae.encode(pictures, return_dict=False)[0]
        z = posterior.mean.float()
        noise = normal(z.shape, z.device, generator)
        strength = normal((clips, 1), z.device, generator).abs().clamp(max=2) / 2
        strength = strength.repeat_interleave(frames, dim=0)[:, :, None, None]
        return z + self.settings.latent_noise * strength * z.std() * noise

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """Bicubic, decoded from its latents, from the truth's, the truth `[3, H, W]`."""
        batch = batch.to(self.vae.device)
        lr, truth = batch.lr[:SHOWN, 0] * 2 - 1, batch.hr[:SHOWN, 0] * 2 - 1
        set_frames(self.vae, 1)
        enlarged = upscale(lr, truth.shape[-1] // lr.shape[-1])
        made = []
        for picture in (enlarged, truth):
            posterior: Any = self.vae.encode(picture, return_dict=False)[0]
            made.append(self.vae.decode_guided(posterior.mean, lr))
        return _rows(*((x + 1) / 2 for x in (enlarged, *made, truth)))


class _Autoencoder(nn.Module):
    """Encode, sample with the given noise, decode: one call, as distributed training wants it."""

    def __init__(self, vae: SFTAutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, noise: Tensor, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        set_frames(self.vae, frames)
        posterior: Any = self.vae.encode(x, return_dict=False)[0]
        z = posterior.mean + posterior.std * noise
        (made,) = self.vae.decode(z, return_dict=False)
        return made, posterior.mean, posterior.logvar


class _GuidedDecoder(nn.Module):
    """The decoder's modules as one call; the encoder is frozen."""

    def __init__(self, vae: SFTAutoencoderKL) -> None:
        super().__init__()
        self.decoder = vae.decoder
        self._vae = [vae]

    def forward(self, latents: Tensor, lr: Tensor, frames: int) -> Tensor:
        set_frames(self.decoder, frames)
        return self._vae[0].decode_guided(latents, lr)


def spectral_loss(made: Tensor, truth: Tensor) -> Tensor:
    """Mean difference of log power spectra of the luma, under a Hann window, means of the batch.

    It sees how much detail there is at every frequency, and a pattern that repeats, but not where.
    """
    height, width = truth.shape[-2:]
    window = torch.hann_window(height, device=truth.device)[:, None]
    window = window * torch.hann_window(width, device=truth.device)

    def log_power(x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x.float().mean(1) * window, norm="ortho")
        power = spectrum.abs().square().mean(0, keepdim=True)
        smooth = F.avg_pool2d(power[None], 3, 1, 1, count_include_pad=False)
        return (smooth + 1e-6).log()

    return (log_power(made) - log_power(truth)).abs().mean()


def _kl(mean: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def _shrunk(x: Tensor, factor: int) -> tuple[int, int]:
    return x.shape[-2] // factor, x.shape[-1] // factor


def _sum(terms: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    total = torch.stack(list(terms.values())).sum()
    return total, {name: value.detach() for name, value in terms.items()}


def _rows(*rows: Tensor) -> Tensor:
    return torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2).clamp(0, 1)


def guided_from(plain: Any, config: dict[str, Any]) -> SFTAutoencoderKL:
    """A VAE with a guided decoder that starts from a plain one.

    With `residual` the last convolution starts at zero: the bicubic enlargement.
    """
    old = {k: v for k, v in plain.config.items() if not k.startswith("_")}
    made = new_vae({**old, **config})
    missing, unexpected = made.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected, unexpected
    assert all("condition_" in n or "_3d" in n for n in missing), missing
    if made.config["residual"]:
        conv: Any = made.decoder.conv_out
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    return made


def build(request: StageRequest) -> AutoencoderStage:
    """The objective of `vae`, or of `sft`, which starts from a pipeline with a plain VAE."""
    settings = from_mapping(DecoderSettings, request.objective, "[objective]")
    base = request.pipeline if isinstance(request.pipeline, PseudoTextPipeline) else None
    if request.stage == "vae":
        pipeline = build_pipeline(request.model, base)
        if not math.isclose(2 ** (len(pipeline.vae.config["block_out_channels"]) - 1), 4):
            raise UsageError("The VAE does not shrink by 4.", "Give it three levels.")
        return VAEStage(pipeline, settings)
    if base is None or base.vae is None:
        raise UsageError(
            "The stage sft starts from a trained VAE.", "Name a run of the stage vae as init_from."
        )
    plain = base.vae
    if not plain.config.get("condition_channels"):
        config = dict(request.model["vae"])
        base.register_modules(plain_vae=plain, vae=guided_from(plain, config))
    return SFTStage(base, settings)
