"""StableVSR: temporally consistent video from an image diffusion upscaler.

Rota, Buzzelli and van de Weijer, "Enhancing Perceptual Quality in Video Super-Resolution through
Temporally-Consistent Detail Synthesis using Diffusion Models", ECCV 2024. Equations, sections and
algorithms are the paper's; docs/methods/stablevsr.md says what differs and why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    DDPMScheduler,
    SchedulerMixin,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from framelift.diffusion.block_transform import BlockTransformCodec, BoundTransform
from framelift.errors import UsageError
from framelift.flow import FlowEstimator, build_flow
from framelift.methods.base import ClipInfo, Noise, OnStep, Step
from framelift.methods.latent_upscaler import BoundCodec, LatentUpscaler
from framelift.methods.stablevsr.guidance_decoder import decode_small
from framelift.methods.stablevsr.motion import Motion, fit_flow
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.sweep import Visit, visits
from framelift.methods.stablevsr.tcm import without_noise_level
from framelift.ops.noise import PositionNoise
from framelift.ops.warp import warp
from framelift.ops.windows import Window, even_windows
from framelift.types import Limits

OnVisit = Callable[[Visit, "FrameState", Tensor | None], None]


@dataclass
class FrameState:
    """What sampling knows of a frame: x_t, and x_t and x̃₀ of the step it took last."""

    codec: BoundCodec | BoundTransform
    condition: Tensor
    scheduler: Any
    latents: Tensor
    steps: int = 0
    noisy: Tensor | None = None
    estimate: Tensor | None = None
    picture: Tensor | None = None
    """D(x̃₀), once it was needed."""

    @property
    def lr(self) -> Tensor:
        return self.codec.lr


class StableVSRPipeline(LatentUpscaler):
    """LR clip [0, 1] → clip four times the size; `controlnet` is the Temporal Conditioning Module.

    `flow`, `flow_frames` and `warp` are what the module was trained with. `bypass_noise_level`
    removes the label from networks that have one, as the released model did.
    """

    settings_class = StableVSRSettings
    _optional_components = [  # noqa: RUF012
        *LatentUpscaler._optional_components,
        "guidance_decoder",
    ]
    limits = Limits(window=24, overlap=2)

    def __init__(
        self,
        vae: AutoencoderKL | BlockTransformCodec,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel,
        scheduler: SchedulerMixin,
        low_res_scheduler: DDPMScheduler | None = None,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
        guidance_decoder: AutoencoderTiny | None = None,
        timesteps: list[int] | None = None,
        steps: int = 50,
        noise_level: int = 20,
        max_noise_level: int = 350,
        detail: float = 1.0,
        eta: float = 0.0,
        flow: str = "dis",
        flow_frames: str = "lr",
        warp: str = "exact",
        bypass_noise_level: bool = False,
    ) -> None:
        super().__init__(
            vae,
            unet,
            scheduler,
            low_res_scheduler,
            text_encoder,
            tokenizer,
            timesteps,
            steps,
            noise_level,
            max_noise_level,
            detail,
            eta,
        )
        self.register_modules(controlnet=controlnet, guidance_decoder=guidance_decoder)
        self.register_to_config(
            flow=flow, flow_frames=flow_frames, warp=warp, bypass_noise_level=bypass_noise_level
        )
        if bypass_noise_level:
            without_noise_level(unet)
            without_noise_level(controlnet)
        self._estimators: dict[str, FlowEstimator] = {}

    def plan(self, info: ClipInfo, window: int, overlap: int) -> list[Window]:
        """Windows of nearly equal length: a sweep over few frames has little to pass on."""
        return even_windows(info.frames, window, overlap, info.cuts)

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,
        *,
        settings: StableVSRSettings | None = None,
        noise: Noise | None = None,
        mask: Tensor | None = None,
        on_step: OnStep | None = None,
        on_visit: OnVisit | None = None,
    ) -> Tensor:
        """Algorithm 1 on `[T, 3, h, w]` (see `VSRPipeline`); `visits` is its two loops.

        `on_visit` sees every frame after each of its steps, with what guided it.
        """
        settings = settings or StableVSRSettings()
        noise = noise or PositionNoise()
        context = self.encode_prompt(settings)
        states, label, motion = self.prepare(frames, settings, noise)
        timesteps = states[0].scheduler.timesteps
        total = len(timesteps)
        height, width = frames.shape[-2:]
        size = (len(states), 3, self.scale * height, self.scale * width)
        pictures = torch.empty(size, device=self.unet.device)
        for done, visit in enumerate(visits(settings.sampling, len(states), total), start=1):
            t, current = timesteps[visit.step], states[visit.frame]
            scaled = current.scheduler.scale_model_input(current.latents, t)
            x = torch.cat([scaled, current.condition], dim=1)
            guidance = residuals = None
            if visit.neighbour is not None:
                neighbour = states[visit.neighbour]
                flow = motion.flow(visit.frame, visit.neighbour)
                guidance = self.texture_guidance(neighbour, current, flow, settings)  # eq. 8
                seen = self.see(guidance, current)
                residuals = self.temporal_conditioning(x, t, seen, context, label, settings)
                if neighbour.steps < total or visit.step == total - 1:
                    neighbour.picture = None  # it will not be needed again
            output = self.denoise(x, t, context, label, settings, residuals)
            current.noisy, current.picture = current.latents, None
            current.estimate = self.estimate(output, current.latents, t)  # eq. 6
            extra = self.step_noise(
                current.scheduler, settings, noise, visit.step, visit.frame, current.latents
            )
            current.latents = current.scheduler.step(
                output, t, current.latents, **extra
            ).prev_sample  # eq. 5
            current.steps += 1
            if current.steps == total:
                pictures[visit.frame] = self.finish(current, settings)[0]
            if on_visit:
                on_visit(visit, current, guidance)
            if on_step:
                on_step(Step(visit.step, total, int(t), done / (len(states) * total)))
        return pictures

    def prepare(
        self, frames: Tensor, settings: StableVSRSettings, noise: Noise
    ) -> tuple[list[FrameState], Tensor | None, Motion]:
        """Every frame's x_T (Algorithm 1, lines 2 to 4), the label and the motion between them."""
        device = self.unet.device
        lr = frames.to(device) * 2 - 1
        condition, label = self.condition(lr, settings, noise)
        height, width = lr.shape[-2:]
        size = (self.codec.latent_channels, height, width)
        start = noise("start", len(lr), size).to(device)
        states = []
        for n in range(len(lr)):
            scheduler = self.new_scheduler(settings)
            latents = start[n : n + 1] * scheduler.init_noise_sigma
            codec = self.bind(lr[n : n + 1])
            states.append(FrameState(codec, condition[n : n + 1], scheduler, latents))
        return states, label, self.motion(lr, settings)

    def motion(self, lr: Tensor, settings: StableVSRSettings) -> Motion:
        """ME for a clip `[T, 3, h, w]` in [-1, 1]."""
        name: Any = self._choice(settings, "flow")
        if name not in self._estimators:
            self._estimators[name] = build_flow(name, device=self.unet.device)
        enlarged = self._choice(settings, "flow_frames") == "enlarged"
        return Motion(lr, self._estimators[name], self.scale, enlarged)

    def texture_guidance(
        self, neighbour: FrameState, current: FrameState, flow: Tensor, settings: StableVSRSettings
    ) -> Tensor:
        """H̃R^{i-1→i} = MC(ME(LR^{i-1}, LR^i), D(x̃₀^{i-1})) (eq. 7 and 8), in [-1, 1].

        A module for latents gets MC of x̃₀ instead. Also for batches: every tensor may hold several
        frames.
        """
        latents = neighbour.noisy if settings.guidance == "xt" else neighbour.estimate
        assert latents is not None
        if settings.warp_space == "latent" or self.takes_latents:
            moved = self.compensate(latents, flow, settings)
            return moved if self.takes_latents else self.decode_guidance(moved, current, settings)
        if neighbour.picture is None:
            neighbour.picture = self.decode_guidance(latents, neighbour, settings)
        return self.compensate(neighbour.picture, flow, settings)

    @property
    def takes_latents(self) -> bool:
        """Whether TCM was built for latents instead of pictures."""
        return self.controlnet.config["conditioning_channels"] == self.codec.latent_channels

    def see(self, guidance: Tensor, frame: FrameState) -> Tensor:
        """The guidance as TCM sees it beside `frame`."""
        return guidance if self.takes_latents else frame.codec.guidance(guidance)

    def compensate(self, x: Tensor, flow: Tensor, settings: StableVSRSettings) -> Tensor:
        """MC, at the size of `x`."""
        if not settings.motion_compensation:
            return x
        half_pixel = self._choice(settings, "warp") == "half-pixel"
        return warp(x, fit_flow(flow, x), half_pixel=half_pixel)

    def decode_guidance(
        self, latents: Tensor, frame: FrameState, settings: StableVSRSettings
    ) -> Tensor:
        """D(x̃₀) beside the LR frames of `frame`, in [-1, 1] but not clamped."""
        if settings.guidance_decoder == "full":
            return frame.codec.to_frames(latents)
        if self.guidance_decoder is None:
            raise UsageError(
                "This preset has no small guidance decoder.", "Use guidance_decoder=full."
            )
        return decode_small(self.guidance_decoder, latents, frame.codec)

    def temporal_conditioning(
        self,
        x: Tensor,
        t: Tensor,
        guidance: Tensor,
        context: Tensor | None,
        label: Tensor | None,
        settings: StableVSRSettings,
        tcm: torch.nn.Module | None = None,
    ) -> list[tuple[list[Tensor], Tensor]]:
        """What TCM adds to the UNet, one pair (skips, middle) for each row of `context`.

        Training passes its `tcm`, which may be wrapped for several devices.
        """
        network = self.controlnet if tcm is None else tcm
        rows = [None] if context is None else [c[None] for c in context]
        return [
            network(
                timestep=t,
                controlnet_cond=guidance.to(self.controlnet.dtype),
                conditioning_scale=settings.tcm_scale,
                return_dict=False,
                **self.network_inputs(x, row, label),
            )
            for row in rows
        ]

    def finish(self, state: FrameState, settings: StableVSRSettings) -> Tensor:
        """D(x₀) in [0, 1]; where the last step returned x̃₀, it is also the guide of the next."""
        picture = state.codec.to_frames(state.latents)
        full = settings.guidance_decoder == "full" and settings.guidance == "x0"
        if full and state.estimate is not None and torch.allclose(state.latents, state.estimate):
            state.picture = picture
        finished = self.to_output(picture, state.codec, settings)
        state.codec = self.bind(state.lr)  # lets go of the enlarged frame
        return finished

    def _choice(self, settings: StableVSRSettings, name: str) -> str:
        """A setting, or what the preset was trained with."""
        chosen = getattr(settings, name)
        return self.config[name] if chosen == "preset" else chosen
