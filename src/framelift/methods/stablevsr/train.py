"""Training of the Temporal Conditioning Module; everything else is frozen (Section 4.4).

`tcm` is Algorithm 2: two neighbouring frames at the same random timestep; the neighbour's estimate,
made by the UNet alone, becomes the texture guidance of the current frame.

`few-step` makes the preset's handful of timesteps count, as the image upscaler's stage of that name
does: Algorithm 1 runs on a short clip, and at every guided visit the decoded x̃₀ is compared with
the truth. The estimates that guide were then themselves guided, as they are when sampling. A share
of the clips keeps the loss of Algorithm 2.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.diffusion.draw import draw_timesteps, noise_of, normal
from framelift.diffusion.losses import PerceptualLoss
from framelift.diffusion.parameterisation import (
    add_noise,
    alpha_sigma,
    prediction_of,
    target,
    to_x0,
)
from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.latent_upscaler import LatentUpscaler
from framelift.methods.stablevsr.guidance import FrameState
from framelift.methods.stablevsr.motion import fit_flow
from framelift.methods.stablevsr.pipeline import StableVSRPipeline
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.tcm import build_tcm
from framelift.ops.warp import warp

TRUSTED_CHANGE = 0.1  # in [-1, 1]; where the warped truth changes more, something appeared


@dataclass(frozen=True)
class ObjectiveSettings:
    """Weights and shares of the loss terms."""

    on_policy: float = 0.0
    """Share of the batch that the few-step stage samples by Algorithm 1."""
    pixel_weight: float = 1.0
    """Weight of the decoded x̃₀'s absolute error, in [-1, 1], at guided visits."""
    temporal_weight: float = 0.0
    """Weight of the absolute difference between how x̃₀ changes from the warped guide, decoded, and
    how the truth changes, where the flow is trusted. The other terms are indifferent between a
    detail invented anew and the neighbour's; this one is not."""
    perceptual_weight: float = 0.0
    """Weight of LPIPS (VGG16) of the decoded x̃₀ at guided visits."""
    perceptual_crop: int = 64
    """Side of the square inside the crop on which LPIPS is computed, in pixels."""
    perceptual_share: float = 1.0
    """Share of the crops on which LPIPS is computed."""


class StableVSRObjective:
    """Loss of TCM on clips of two or more consecutive frames."""

    def __init__(self, pipeline: StableVSRPipeline, settings: ObjectiveSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.sampling = StableVSRSettings()
        self.context: Tensor | None = None
        for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            if network is not None:
                network.requires_grad_(False).eval()
        self.lpips = None
        if settings.perceptual_weight:
            self.lpips = PerceptualLoss(settings.perceptual_crop, settings.perceptual_share)

    @property
    def trained(self) -> nn.Module:
        return self.pipeline.controlnet

    def to(self, device: torch.device) -> None:
        """Move what is frozen; TCM is moved by the loop."""
        pipeline = self.pipeline
        for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder, self.lpips):
            if network is not None:
                network.to(device)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing depends on the data."""

    def loss(
        self, tcm: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch `[B, T, 3, H, W]` and its terms; about half of the clips run backwards.

        So the neighbour is the frame before or the one after, drawn for each clip.
        """
        self._encode_prompt()
        drawn = torch.rand(len(batch.hr), generator=generator, device=generator.device) < 0.5
        backwards = drawn.to(batch.hr.device).reshape(-1, 1, 1, 1, 1)
        hr, lr = (torch.where(backwards, x.flip(1), x) * 2 - 1 for x in (batch.hr, batch.lr))
        own = round(len(hr) * self.settings.on_policy)
        terms: dict[str, Tensor] = {}
        if own < len(hr):
            kind = prediction_of(self.pipeline.scheduler)
            name = "v" if kind == "v_prediction" else kind
            terms[name] = self.denoising_loss(tcm, hr[own:], lr[own:], generator)
        if own:
            terms |= self.few_step_loss(tcm, hr[:own], lr[:own], generator)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    def denoising_loss(
        self, tcm: nn.Module, hr: Tensor, lr: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Algorithm 2; equation 9 with the scheduler's own target (v or ε)."""
        pipeline, scheduler = self.pipeline, self.pipeline.scheduler
        kind = prediction_of(scheduler)
        limit = scheduler.config["num_train_timesteps"]
        t = draw_timesteps(limit, len(hr), hr.device, generator)
        alpha, sigma = alpha_sigma(scheduler.alphas_cumprod, t)
        pair = lr[:, :2].unbind(1)
        with torch.no_grad():  # lines 2 to 5
            neighbour, current = (FrameState(codec=pipeline.codec(x)) for x in pair)
            x0 = [pipeline.codec(lr[:, n]).encode(hr[:, n], generator) for n in range(2)]
            noises = [normal(x.shape, x.device, generator) for x in x0]
            x_t = [add_noise(x, n, alpha, sigma) for x, n in zip(x0, noises, strict=True)]
            noise = noise_of(generator, hr.device)
            condition, label = pipeline.condition(torch.cat(pair), self.sampling, noise)
            x = [torch.cat(both, 1) for both in zip(x_t, condition.split(len(hr)), strict=True)]
            # lines 6 and 7
            output = pipeline.predict(x[0], t, None, self.context, label, self.sampling)
            neighbour.noisy, neighbour.estimate = x_t[0], to_x0(kind, output, x_t[0], alpha, sigma)
            guide = pipeline.texture_guidance(pair, self.sampling)
            guidance = guide.between(1, current, 0, neighbour)
        # lines 8 to 10
        output = pipeline.predict(x[1], t, guidance, self.context, label, self.sampling, tcm)
        return F.mse_loss(output, target(kind, x0[1], noises[1], alpha, sigma))

    def few_step_loss(
        self, tcm: nn.Module, hr: Tensor, lr: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Algorithm 1 on the clip; the mean loss of its guided visits."""
        pipeline = self.pipeline
        clip, truth = lr.unbind(1), hr.unbind(1)
        size = (len(lr), *pipeline.latent_size(lr))
        noises = [normal(size, hr.device, generator) for _ in clip]
        noise = noise_of(generator, hr.device, len(lr))
        states, label = pipeline.start(clip, noises, self.sampling, noise)
        guide = pipeline.texture_guidance(clip, self.sampling)
        terms: dict[str, list[Tensor]] = {}
        pictures: dict[int, Tensor] = {}
        for visit, current, guidance in pipeline.sweep(
            states, guide, self.context, label, self.sampling, noise, tcm
        ):
            assert current.estimate is not None
            picture = current.codec.decode(current.estimate)
            if guidance is not None and visit.neighbour is not None:
                before = pictures[visit.neighbour], truth[visit.neighbour]
                flow = guide.motion.flow(visit.frame, visit.neighbour)
                found = self._compare(picture, truth[visit.frame], *before, flow, generator)
                for name, loss in found.items():
                    terms.setdefault(name, []).append(loss)
            current.estimate = current.estimate.detach()
            current.picture = pictures[visit.frame] = picture.detach()
        return {name: torch.stack(losses).mean() for name, losses in terms.items()}

    def _compare(
        self,
        picture: Tensor,
        truth: Tensor,
        guide: Tensor,
        guide_truth: Tensor,
        flow: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Weighted loss terms of D(x̃₀) at a guided visit."""
        own = self.settings
        terms = {"pixel": own.pixel_weight * F.l1_loss(picture, truth)}
        if own.temporal_weight:
            flow = fit_flow(flow, truth)
            change = truth - warp(guide_truth, flow)
            trusted = change.abs().mean(dim=1, keepdim=True) < TRUSTED_CHANGE
            difference = (picture - warp(guide, flow) - change).abs() * trusted
            terms["temporal"] = own.temporal_weight * difference.mean()
        if self.lpips is not None:
            terms["lpips"] = own.perceptual_weight * self.lpips(picture, truth, generator)
        return terms

    @torch.no_grad()
    def _encode_prompt(self) -> None:
        if self.context is None:
            self.context = self.pipeline.encode_prompt(self.sampling)


def build(request: StageRequest) -> StableVSRObjective:
    """The objective of `tcm` or `few-step`."""
    settings = from_mapping(ObjectiveSettings, request.objective, "[objective]")
    if request.stage == "few-step" and not settings.on_policy:
        raise UsageError("The few-step stage samples by Algorithm 1.", "Set on_policy.")
    if request.frames < 2:
        raise UsageError(
            "TCM is trained on neighbouring frames.", "Set [data] frames to 2 or more."
        )
    pipeline = request.pipeline
    if not isinstance(pipeline, LatentUpscaler):
        raise UsageError(
            "TCM is trained on an image upscaler.", "Name its preset or folder as init_from."
        )
    if not isinstance(pipeline, StableVSRPipeline):
        pipeline = build_pipeline(pipeline, request.model)
    return StableVSRObjective(pipeline, settings)


def build_pipeline(
    upscaler: LatentUpscaler, model: Mapping[str, Any], timesteps: tuple[int, ...] = ()
) -> StableVSRPipeline:
    """StableVSR on the components of an image upscaler, with an untrained TCM.

    `model` may hold `tcm` (arguments of `build_tcm`) and `pipeline` (flow, flow_frames, warp, …).
    """
    parts = {n: c for n, c in upscaler.components.items() if c is not None}
    tcm: ControlNetModel = build_tcm(
        upscaler.unet, upscaler.latent_space.factor, **_tuples(model.get("tcm", {}))
    )
    own = {n: upscaler.config[n] for n in ("timesteps", "steps", "noise_level", "max_noise_level")}
    own |= {n: upscaler.config[n] for n in ("detail", "eta")} | model.get("pipeline", {})
    if timesteps:
        own |= {"timesteps": list(timesteps), "steps": len(timesteps)}
    return StableVSRPipeline(**parts, controlnet=tcm, **own)


def _tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
