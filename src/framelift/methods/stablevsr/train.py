"""Training of the Temporal Conditioning Module; everything else is frozen (Section 4.4).

`tcm` is Algorithm 2: two neighbouring frames at the same random timestep; the neighbour's estimate,
made by the UNet alone, becomes the texture guidance of the current frame.

`few-step` makes the preset's handful of timesteps count, as the image upscaler's stage of that name
does: Algorithm 1 runs on a short clip, and at every guided visit the decoded x̃₀ is compared with
the truth. The estimates that guide were then themselves guided, as they are when sampling. A share
of the clips keeps the loss of Algorithm 2.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel
from torch import Tensor, nn

from framelift.diffusion.draw import draw_timesteps, normal, randint
from framelift.diffusion.losses import PerceptualLoss
from framelift.methods.base import Batch
from framelift.methods.latent_upscaler import LatentUpscaler
from framelift.methods.stablevsr.motion import fit_flow
from framelift.methods.stablevsr.pipeline import FrameState, StableVSRPipeline
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.sweep import visits
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
        self.label: Tensor | None = None
        self.flow = torch.empty(0)
        pipeline.unet.requires_grad_(False).eval()
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
        with torch.no_grad():
            self.context = pipeline.encode_prompt(self.sampling)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing depends on the data."""

    def loss(
        self, tcm: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch `[B, T, 3, H, W]` and its terms; half of the batches run backwards."""
        hr, lr = batch.hr * 2 - 1, batch.lr * 2 - 1
        if randint(2, generator):
            hr, lr = hr.flip(1), lr.flip(1)
        own = round(len(hr) * self.settings.on_policy)
        terms: dict[str, Tensor] = {}
        if own < len(hr):
            terms["v"] = self.denoising_loss(tcm, hr[own:], lr[own:], generator)
        if own:
            terms |= self.few_step_loss(tcm, hr[:own], lr[:own], generator)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: float(value.detach()) for name, value in terms.items()}

    def denoising_loss(
        self, tcm: nn.Module, hr: Tensor, lr: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Algorithm 2; equation 9 with the scheduler's own target (v or ε)."""
        pipeline = self.pipeline
        t = draw_timesteps(
            pipeline.scheduler.config["num_train_timesteps"], len(hr), hr.device, generator
        )
        alpha, sigma = pipeline.alpha_sigma(t)
        states = []
        for n in range(2):  # lines 2 to 5
            x0 = pipeline.codec.to_latents(hr[:, n], lr[:, n])
            noise = normal(x0.shape, hr.device, generator)
            state = self._state(lr[:, n], alpha * x0 + sigma * noise, generator)
            states.append((state, x0, noise))
        (neighbour, *_), (current, x0, noise) = states
        with torch.no_grad():  # lines 6 and 7
            output = self._denoise(tcm, neighbour, t, None)
            neighbour.noisy = neighbour.latents
            neighbour.estimate = pipeline.estimate(output, neighbour.latents, t)
        output = self._denoise(tcm, current, t, neighbour)  # lines 8 to 10
        kind = pipeline.scheduler.config["prediction_type"]
        target = alpha * noise - sigma * x0 if kind == "v_prediction" else noise
        return F.mse_loss(output, target)

    def few_step_loss(
        self, tcm: nn.Module, hr: Tensor, lr: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Algorithm 1 on the clip; the mean loss of its guided visits."""
        pipeline = self.pipeline
        states = []
        for n in range(hr.shape[1]):
            size = (len(lr), pipeline.codec.latent_channels, *lr.shape[-2:])
            state = self._state(lr[:, n], normal(size, hr.device, generator), generator)
            state.scheduler = pipeline.new_scheduler(self.sampling)
            states.append(state)
        timesteps = states[0].scheduler.timesteps.to(hr.device)
        terms: dict[str, list[Tensor]] = {}
        for visit in visits("bidirectional", len(states), len(timesteps)):
            t, current = timesteps[visit.step].expand(len(lr)), states[visit.frame]
            neighbour = None if visit.neighbour is None else states[visit.neighbour]
            with torch.set_grad_enabled(neighbour is not None and torch.is_grad_enabled()):
                output = self._denoise(tcm, current, t, neighbour)
                estimate = pipeline.estimate(output, current.latents, t)
                picture = current.codec.to_frames(estimate)
                if visit.neighbour is not None:
                    before = states[visit.neighbour].picture, hr[:, visit.neighbour]
                    for name, loss in self._compare(
                        picture, hr[:, visit.frame], *before, self.flow, generator
                    ).items():
                        terms.setdefault(name, []).append(loss)
            current.noisy, current.estimate = current.latents, estimate.detach()
            current.picture = picture.detach()
            step = current.scheduler.step(output.detach(), timesteps[visit.step], current.latents)
            current.latents = step.prev_sample
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

    def _state(self, lr: Tensor, x_t: Tensor, generator: torch.Generator) -> FrameState:
        """`x_t` beside the LR frames, which get the preset's noise level if there is a label."""

        def noise(stream: str, frames: Any, size: Any, step: int = 0) -> Tensor:
            return normal((len(lr), *size), lr.device, generator)

        pipeline = self.pipeline
        condition, self.label = pipeline.condition(lr, self.sampling, noise)
        return FrameState(pipeline.bind(lr), condition, None, x_t)

    def _denoise(
        self,
        tcm: nn.Module,
        current: FrameState,
        t: Tensor,
        neighbour: FrameState | None,
    ) -> Tensor:
        """The UNet's output, with TCM where there is a neighbour; as the pipeline computes it."""
        pipeline = self.pipeline
        x = torch.cat([current.latents, current.condition], dim=1)
        residuals = None
        if neighbour is not None:
            with torch.no_grad():
                motion = pipeline.motion(current.lr, self.sampling)
                self.flow = motion.between(current.lr, neighbour.lr)
                guidance = pipeline.texture_guidance(neighbour, current, self.flow, self.sampling)
                guidance = pipeline.see(guidance, current)
            residuals = pipeline.temporal_conditioning(
                x, t, guidance, self.context, self.label, self.sampling, tcm
            )
        return pipeline.denoise(x, t, self.context, self.label, self.sampling, residuals)


def build_pipeline(
    upscaler: LatentUpscaler, model: dict[str, Any], timesteps: tuple[int, ...] = ()
) -> StableVSRPipeline:
    """StableVSR on the components of an image upscaler, with an untrained TCM.

    `model` may hold `tcm` (arguments of `build_tcm`) and `pipeline` (flow, flow_frames, warp, …).
    """
    parts = {n: c for n, c in upscaler.components.items() if c is not None}
    tcm: ControlNetModel = build_tcm(
        upscaler.unet, upscaler.codec.factor, **_tuples(model.get("tcm", {}))
    )
    own = {n: upscaler.config[n] for n in ("timesteps", "steps", "noise_level", "max_noise_level")}
    own |= {n: upscaler.config[n] for n in ("detail", "eta")} | model.get("pipeline", {})
    if timesteps:
        own |= {"timesteps": list(timesteps), "steps": len(timesteps)}
    return StableVSRPipeline(**parts, controlnet=tcm, **own)


def _tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
