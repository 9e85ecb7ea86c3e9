"""StableVSR: temporally consistent video from an image diffusion upscaler.

Rota, Buzzelli and van de Weijer, "Enhancing Perceptual Quality in Video Super-Resolution through
Temporally-Consistent Detail Synthesis using Diffusion Models", ECCV 2024. Equations, sections and
algorithms are the paper's; docs/methods/stablevsr.md says what differs and why.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
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
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.flow import FlowEstimator, build_flow
from framelift.methods.base import ClipInfo, Noise, OnStep, Step
from framelift.methods.latent_upscaler import LatentUpscaler
from framelift.methods.stablevsr.guidance import SampledFrame, TextureGuidance
from framelift.methods.stablevsr.motion import Motion
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.sweep import Visit, visits
from framelift.methods.stablevsr.tcm import without_noise_level
from framelift.ops.noise import PositionNoise
from framelift.ops.windows import Window, even_windows
from framelift.types import Limits

OnVisit = Callable[[Visit, SampledFrame, Tensor | None], None]


class StableVSRPipeline(LatentUpscaler):
    """LR clip [0, 1] → clip four times the size; `controlnet` is the Temporal Conditioning Module.

    `flow`, `flow_frames` and `warp` are what the module was trained with. `bypass_noise_level`
    removes the label from networks that have one, as the released model did.
    """

    settings_class = StableVSRSettings
    model_cpu_offload_seq = "text_encoder->controlnet->unet->vae->guidance_decoder"
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
        """Algorithm 1 on `[T, 3, h, w]` (see `VSRPipeline`).

        `on_visit` sees every frame after each of its steps, with what guided it.
        """
        settings = settings or StableVSRSettings()
        noise = noise or PositionNoise()
        device = self._execution_device
        context = self.encode_prompt(settings)
        clip = (frames.to(device) * 2 - 1).split(1)
        start = noise("start", len(clip), self.latent_size(frames)).to(device)
        states, label = self.start(clip, start.split(1), settings, noise)
        guide = self.texture_guidance(clip, settings)
        size = (len(clip), 3, *(self.scale * side for side in frames.shape[-2:]))
        pictures = torch.empty(size, device=device)
        sweep = self.sweep(states, guide, context, label, settings, noise)
        for done, (visit, current, guidance) in enumerate(sweep, start=1):
            if current.trajectory.finished:
                pictures[visit.frame] = self.finish(current, settings)[0]
            if on_visit:
                on_visit(visit, current, guidance)
            if on_step:
                total = len(current.trajectory.sampler)
                t = int(current.trajectory.sampler.timesteps[visit.step])
                on_step(Step(visit.step, total, t, done / (len(states) * total)))
        return pictures

    def start(
        self,
        clip: Sequence[Tensor],
        noises: Sequence[Tensor],
        settings: StableVSRSettings,
        noise: Noise,
    ) -> tuple[list[SampledFrame], Tensor | None]:
        """Every frame's x_T (Algorithm 1, lines 2 to 4), and the label.

        The frames of `clip` `[B, 3, h, w]` are in [-1, 1]; of `noises`, x_T is made.
        """
        condition, label = self.condition(torch.cat(list(clip)), settings, noise)
        sampler = self.sampler(settings)
        parts = zip(clip, condition.split(len(clip[0])), noises, strict=True)
        return [
            SampledFrame(codec=self.codec(lr), condition=beside, trajectory=sampler.begin(x))
            for lr, beside, x in parts
        ], label

    def sweep(
        self,
        states: Sequence[SampledFrame],
        guide: TextureGuidance,
        context: Tensor | None,
        label: Tensor | None,
        settings: StableVSRSettings,
        noise: Noise,
        tcm: nn.Module | None = None,
    ) -> Iterator[tuple[Visit, SampledFrame, Tensor | None]]:
        """Algorithm 1, for inference and training; `visits` is its two loops.

        Yields every frame after each of its steps, with what guided it. Gradients, where they are
        wanted, reach `tcm` from the x̃₀ of a guided visit and no further.
        """
        total = len(states[0].trajectory.sampler)
        for visit in visits(settings.sampling, len(states), total):
            current, guidance = states[visit.frame], None
            t, x_t = current.trajectory.t, current.trajectory.x_t
            if visit.neighbour is not None:
                neighbour = states[visit.neighbour]
                with torch.no_grad():
                    guidance = guide.between(visit.frame, current, visit.neighbour, neighbour)
                if not neighbour.trajectory.finished or visit.step == total - 1:
                    neighbour.picture = None  # it will not be needed again
            x = torch.cat([current.trajectory.network_input(), current.condition], dim=1)
            output = self.predict(x, t, guidance, context, label, settings, tcm)
            current.noisy, current.picture = x_t, None
            current.estimate = current.trajectory.estimate(output)  # eq. 6
            place = range(visit.frame, visit.frame + 1), tuple(x_t.shape[1:]), visit.step
            current.trajectory.step(output.detach(), partial(noise, "step", *place))  # eq. 5
            yield visit, current, guidance

    def predict(
        self,
        x: Tensor,
        t: Tensor | float,
        guidance: Tensor | None,
        context: Tensor | None,
        label: Tensor | None,
        settings: StableVSRSettings,
        tcm: nn.Module | None = None,
    ) -> Tensor:
        """The UNet's output for `x`, with what TCM makes of the guidance where there is one.

        Training passes its `tcm`, which may be wrapped for several devices.
        """
        residuals = None
        if guidance is not None:  # one pair (skips, middle) for each row of `context`
            residuals = [
                (tcm or self.controlnet)(
                    controlnet_cond=guidance.to(self.controlnet.dtype),
                    conditioning_scale=settings.tcm_scale,
                    return_dict=False,
                    **self.network_inputs(x, t, row, label),
                )
                for row in ([None] if context is None else [c[None] for c in context])
            ]
        return self.denoise(x, t, context, label, settings, residuals)

    def texture_guidance(
        self, clip: Sequence[Tensor], settings: StableVSRSettings
    ) -> TextureGuidance:
        """Equations 7 and 8 on a clip of frames `[B, 3, h, w]` in [-1, 1]."""
        name: Any = self._choice(settings, "flow")
        if name not in self._estimators:
            self._estimators[name] = build_flow(name, device=self._execution_device)
        enlarged = self._choice(settings, "flow_frames") == "enlarged"
        channels = self.controlnet.config["conditioning_channels"]
        return TextureGuidance(
            Motion(clip, self._estimators[name], self.scale, enlarged),
            settings,
            half_pixel=self._choice(settings, "warp") == "half-pixel",
            of_latents=channels == self.latent_space.channels,
            small_decoder=self.guidance_decoder,
        )

    def finish(self, state: SampledFrame, settings: StableVSRSettings) -> Tensor:
        """D(x₀) in [0, 1]; where the last step returned x̃₀, it is also the guide of the next."""
        latents = state.trajectory.x_t
        picture = state.codec.decode(latents)
        full = settings.guidance_decoder == "full" and settings.guidance == "x0"
        if full and state.trajectory.sampler.ends_at_estimate:
            state.picture = picture
        finished = self.to_output(picture, state.codec, settings)
        state.codec = self.codec(state.lr)  # lets go of the enlarged frame
        return finished

    def _choice(self, settings: StableVSRSettings, name: str) -> str:
        """A setting, or what the preset was trained with."""
        chosen = getattr(settings, name)
        return self.config[name] if chosen == "preset" else chosen
