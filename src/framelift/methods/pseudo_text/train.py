"""Training of the adapter (section 4.1.1), and of the bundled UNet that it speaks to.

`adapter`: everything but the adapter is frozen; the loss of equation 3.4, with the target that the
UNet's scheduler names (v for Upscale-A-Video's, noise for ModelScope's).

`unet`: there is no small text-to-video UNet to freeze, so one is trained first. Its captions are
written by a captioner, an adapter that looks at the true frames and is thrown away afterwards;
some clips have none, as text-to-image models are trained. So the frozen UNet knows how to read,
and has never seen a pseudo-text of LR frames.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.draw import draw_timesteps, noise_of, normal
from framelift.diffusion.parameterisation import add_noise, alpha_sigma, prediction_of, target
from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.pseudo_text.build import build_pipeline, new_adapter, random_vit
from framelift.methods.pseudo_text.pipeline import PseudoTextPipeline
from framelift.methods.pseudo_text.settings import PseudoTextSettings
from framelift.methods.pseudo_text.sft_vae import ClipCodec
from framelift.ops.resize import upscale

SHOWN = 4  # clips in a sample picture


@dataclass(frozen=True)
class DenoisingSettings:
    """The stages `unet` and `adapter`."""

    empty_share: float = 0.2
    """Share of the clips without a text (stage unet)."""
    fit_latents: bool = True
    """Measure the latents' mean and deviation on the first clips and write them to the VAE's
    configuration (stage unet)."""
    grid_steps: int = 0
    """Draw timesteps from those of a sampling with so many steps; 0: from all of them. The thesis
    speaks of 30 steps in training."""
    max_noise_level: int = 0
    """Highest noise level of the LR frames, for UNets that are told it; 0: the preset's own."""
    random_vit: bool = False
    """Look with a ViT of random weights instead, for comparison (stage adapter)."""


class DenoisingStage:
    """The diffusion loss of clips and their text."""

    def __init__(self, pipeline: PseudoTextPipeline, settings: DenoisingSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.sampling = PseudoTextSettings()
        for network in pipeline.components.values():
            if isinstance(network, nn.Module):
                network.requires_grad_(False)
        self.trained.requires_grad_(True)

    @property
    def trained(self) -> nn.Module:
        raise TypeError(f"{type(self).__name__} trains nothing")

    def to(self, device: torch.device) -> None:
        """Move the whole pipeline."""
        self.pipeline.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing depends on the data."""

    def noised(self, batch: Batch, generator: torch.Generator) -> dict[str, Any]:
        """x_t, t, the target, and what the UNet sees beside them, for clips `[B, c, T, h, w]`."""
        pipeline, scheduler = self.pipeline, self.pipeline.scheduler
        clips, frames = batch.hr.shape[:2]
        hr, lr = (x.flatten(0, 1) * 2 - 1 for x in (batch.hr, batch.lr))
        with torch.no_grad():
            x0 = ClipCodec(pipeline.vae, lr, chunk=frames).encode(hr)
        x0 = x0.unflatten(0, (clips, frames)).transpose(1, 2)
        noise = normal(x0.shape, x0.device, generator)
        t = self.timesteps(clips, x0.device, generator)
        alpha, sigma = alpha_sigma(scheduler.alphas_cumprod, t)
        beside, label = self.beside(batch.lr * 2 - 1, generator)
        return {
            "x_t": add_noise(x0, noise, alpha, sigma),
            "t": t,
            "target": target(prediction_of(scheduler), x0, noise, alpha, sigma),
            "lr": beside,
            "label": label,
        }

    def timesteps(self, count: int, device: torch.device, generator: torch.Generator) -> Tensor:
        """A timestep for every clip."""
        every = self.pipeline.scheduler.config["num_train_timesteps"]
        steps = self.settings.grid_steps or every
        return draw_timesteps(steps, count, device, generator) * (every // steps)

    def beside(self, lr: Tensor, generator: torch.Generator) -> tuple[Tensor | None, Tensor | None]:
        """LR clips `[B, 3, T, h, w]` as the UNet sees them, and their noise level."""
        pipeline = self.pipeline
        if not pipeline.sees_lr:
            return None, None
        lr = lr.transpose(1, 2)
        if pipeline.unet.config.get("num_class_embeds") is None:
            return lr, None
        highest = self.settings.max_noise_level or pipeline.config["noise_level"]
        level = draw_timesteps(highest + 1, len(lr), lr.device, generator)
        noise = normal(lr.shape, lr.device, generator)
        made: Any = pipeline.low_res_scheduler.add_noise(lr, noise, level)
        return made, level

    def look(self, clips: Tensor) -> Tensor:
        """The ViT's tokens `[B, T, n, d]` of clips in [0, 1]."""
        with torch.no_grad():
            seen = self.pipeline.look(clips.flatten(0, 1) * 2 - 1, self.sampling)
        return seen.unflatten(0, clips.shape[:2])

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """Rows of last frames: bicubic, the result, the truth `[3, H, W]`."""
        pipeline, settings = self.pipeline, PseudoTextSettings(condition=self._conditioned)
        batch = batch.to(pipeline._execution_device)
        noise = noise_of(torch.Generator().manual_seed(0), batch.lr.device)
        made = [pipeline(c, settings=settings, noise=noise)[-1] for c in batch.lr[:SHOWN]]
        bicubic = upscale(batch.lr[:SHOWN, -1], pipeline.scale).clamp(0, 1)
        rows = [list(bicubic), made, list(batch.hr[:SHOWN, -1])]
        return torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)

    _conditioned = True


class CaptionedUNet(nn.Module):
    """A UNet and the captioner whose text it reads, as one call."""

    def __init__(self, pipeline: PseudoTextPipeline, captioner: nn.Module) -> None:
        super().__init__()
        self.unet, self.captioner = pipeline.unet, captioner
        self._pipeline = [pipeline]

    def forward(self, tokens: Tensor, captioned: Tensor, inputs: dict[str, Any]) -> Tensor:
        text = self.captioner(tokens) * captioned[:, None, None]
        return self._pipeline[0].denoise(text=text, unet=self.unet, **inputs)


class UNetStage(DenoisingStage):
    """The bundled UNet, with captions of the true frames."""

    _conditioned = False

    def __init__(
        self, pipeline: PseudoTextPipeline, settings: DenoisingSettings, captioner: nn.Module
    ) -> None:
        self.captioner = captioner
        super().__init__(pipeline, settings)

    @property
    def trained(self) -> nn.Module:
        return CaptionedUNet(self.pipeline, self.captioner)

    @torch.no_grad()
    def prepare(self, batches: Iterable[Batch]) -> None:
        """Measure the latents, before the first step."""
        if not self.settings.fit_latents:
            return
        vae: Any = self.pipeline.vae
        found = []
        for batch in batches:
            hr = batch.hr.flatten(0, 1) * 2 - 1
            found.append(ClipCodec(vae, hr, chunk=batch.hr.shape[1]).posterior(hr).mean)
        latents = torch.cat(found)
        vae.register_to_config(
            shift_factor=float(latents.mean()), scaling_factor=1 / float(latents.std())
        )

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch of clips, most of them with captions."""
        inputs = self.noised(batch, generator)
        wanted = inputs.pop("target")
        drawn = draw_timesteps(1000, len(batch.hr), batch.hr.device, generator)
        captioned = (drawn >= 1000 * self.settings.empty_share).float()
        output = network(self.look(batch.hr), captioned, inputs)
        kind = prediction_of(self.pipeline.scheduler)
        loss = F.mse_loss(output, wanted)
        return loss, {kind: loss.detach()}


class AdapterStage(DenoisingStage):
    """Section 4.1.1: the adapter alone learns, through the frozen UNet."""

    def __init__(self, pipeline: PseudoTextPipeline, settings: DenoisingSettings) -> None:
        if settings.random_vit:
            pipeline.register_modules(vit=random_vit(pipeline.vit, seed=0))
        super().__init__(pipeline, settings)

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.adapter

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Equation 3.4 for one batch of clips."""
        text = network(self.look(batch.lr))
        loss = self.errors(batch, text, generator).mean()
        return loss, {prediction_of(self.pipeline.scheduler): loss.detach()}

    def errors(self, batch: Batch, text: Tensor, generator: torch.Generator) -> Tensor:
        """The squared error of every clip `[B]` with its text `[B, N, D]`."""
        inputs = self.noised(batch, generator)
        wanted = inputs.pop("target")
        output = self.pipeline.denoise(text=text, **inputs)
        return (output - wanted).square().flatten(1).mean(1)


def build(request: StageRequest) -> DenoisingStage:
    """The objective of `unet` or `adapter`."""
    settings = from_mapping(DenoisingSettings, request.objective, "[objective]")
    base = request.pipeline
    if base is not None and not isinstance(base, PseudoTextPipeline):
        raise UsageError(
            f"A {type(base).__name__} has no UNet that reads a pseudo-text.",
            "Name a pseudo-text preset or folder as init_from.",
        )
    model = dict(request.model)
    if request.stage == "unet":
        captioner = model.pop("captioner", {})
        pipeline = build_pipeline(model, base)
        sizes = {"vit": pipeline.vit, "unet": pipeline.unet}
        return UNetStage(pipeline, settings, new_adapter(captioner, sizes))
    pipeline = build_pipeline(model, base)
    for name in ("vit", "vae", "unet", "scheduler", "adapter"):
        if getattr(pipeline, name) is None:
            raise UsageError(f"There is no {name} to train with.", "Add [model.parts] or a table.")
    return AdapterStage(pipeline, settings)
