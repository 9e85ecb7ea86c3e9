"""Per-frame latent diffusion upscaler: the baseline on which StableVSR stands.

The published preset is Stability's ×4 upscaler (Rombach et al., "High-Resolution Image Synthesis
with Latent Diffusion Models", CVPR 2022; weights `stabilityai/stable-diffusion-x4-upscaler`,
CreativeML Open RAIL++-M). With the same components, latents and noise it computes what diffusers'
`StableDiffusionUpscalePipeline` computes.

Differs from it: frames instead of one image; noise is a function of position; a UNet without
noise-level label gets the clean LR frame; timesteps may come from the preset; `detail` may scale
what the luma gains over bicubic; no safety checker and no watermark.
"""

import inspect

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    SchedulerMixin,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from framelift.methods.base import Noise, OnStep, Step, VSRPipeline
from framelift.methods.image_ldm.settings import ImageLDMSettings
from framelift.models.block_transform import BT601, BlockTransformCodec
from framelift.models.codec import as_codec
from framelift.ops.noise import PositionNoise
from framelift.ops.resize import upscale


class ImageLDMPipeline(VSRPipeline):
    """LR frames [0, 1] → frames four times the size, each on its own.

    `timesteps` are the preset's own sampling steps, used when the settings ask for their number
    or for none; other step counts follow the scheduler's spacing.
    """

    _optional_components = ["text_encoder", "tokenizer", "low_res_scheduler"]  # noqa: RUF012
    scale = 4

    def __init__(
        self,
        vae: AutoencoderKL | BlockTransformCodec,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        low_res_scheduler: DDPMScheduler | None = None,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
        timesteps: list[int] | None = None,
        steps: int = 50,
        noise_level: int = 20,
        max_noise_level: int = 350,
        detail: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            low_res_scheduler=low_res_scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self.register_to_config(
            timesteps=timesteps,
            steps=steps,
            noise_level=noise_level,
            max_noise_level=max_noise_level,
            detail=detail,
        )
        self.size_multiple = 2 ** (len(unet.config["block_out_channels"]) - 1)

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,
        *,
        settings: ImageLDMSettings | None = None,
        noise: Noise | None = None,
        mask: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Upscale `[T, 3, h, w]`; every frame is a sample of its own (see `VSRPipeline`)."""
        settings = settings or ImageLDMSettings()
        noise = noise or PositionNoise()
        codec = as_codec(self.vae)
        device = self.unet.device
        lr = frames.to(device) * 2 - 1
        condition, label = self.condition(lr, settings, noise)
        context = self.encode_prompt(settings)

        height, width = lr.shape[-2:]
        latent_size = (codec.latent_channels, height, width)
        start = noise("start", len(lr), latent_size).to(device)
        output = []
        for first in range(0, len(lr), settings.batch):
            part = slice(first, first + settings.batch)
            timesteps = self.set_timesteps(settings)
            latents = start[part] * self.scheduler.init_noise_sigma
            for i, t in enumerate(timesteps):
                v = self.denoise(latents, t, condition[part], label, context, settings).float()
                extra = self.step_noise(settings, noise, i, first, latents)
                latents = self.scheduler.step(v, t, latents, **extra).prev_sample
                if on_step:
                    done = (first + len(latents) * (i + 1) / len(timesteps)) / len(lr)
                    on_step(Step(i, len(timesteps), int(t), done))
            sr = codec.to_frames(latents, lr[part]).float()
            output.append(self.emphasize(sr, lr[part], settings))
        return ((torch.cat(output) + 1) / 2).clamp(0, 1)

    def emphasize(self, frames: Tensor, lr: Tensor, settings: ImageLDMSettings) -> Tensor:
        """Scale what the luma has gained over the bicubic enlargement by `detail`."""
        detail = self.config["detail"] if settings.detail is None else settings.detail
        if detail == 1:
            return frames
        weights = torch.tensor(BT601[0], device=frames.device)[:, None, None]
        gained = ((frames - upscale(lr.float(), self.scale)) * weights).sum(dim=1, keepdim=True)
        return frames + (detail - 1) * gained

    def condition(
        self, lr: Tensor, settings: ImageLDMSettings, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """The LR frames as the UNet sees them, with the noise level that its label states."""
        codec = as_codec(self.vae)
        if self.unet.config["num_class_embeds"] is None:
            return codec.condition(lr), None
        level = self.config["noise_level"] if settings.noise_level is None else settings.noise_level
        level = torch.tensor([level], device=lr.device)
        channels, height, width = lr.shape[1:]
        lr_noise = noise("lr", len(lr), (channels, height, width)).to(lr.device)
        return codec.condition(self.low_res_scheduler.add_noise(lr, lr_noise, level)), level

    def encode_prompt(self, settings: ImageLDMSettings) -> Tensor | None:
        """Text embedding `[1 or 2, 77, d]`, the empty prompt first under guidance."""
        if self.text_encoder is None:
            return None
        guided = settings.guidance_scale > 1
        tokens = self.tokenizer(
            ["", settings.prompt] if guided else [settings.prompt],
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return self.text_encoder(tokens.input_ids.to(self.text_encoder.device))[0]

    def set_timesteps(self, settings: ImageLDMSettings) -> Tensor:
        """Reset the scheduler; multistep solvers keep state from one sample to the next."""
        own = self.config["timesteps"]
        steps = settings.steps or self.config["steps"]
        if own and len(own) == steps:
            self.scheduler.set_timesteps(timesteps=own, device=self.unet.device)
        else:
            self.scheduler.set_timesteps(steps, device=self.unet.device)
        return self.scheduler.timesteps

    def denoise(
        self,
        latents: Tensor,
        t: Tensor,
        condition: Tensor,
        label: Tensor | None,
        context: Tensor | None,
        settings: ImageLDMSettings,
    ) -> Tensor:
        """One network evaluation: the UNet's output for noisy latents beside the LR frame."""
        x = torch.cat([self.scheduler.scale_model_input(latents, t), condition], dim=1)
        if context is not None and len(context) == 2:
            empty, prompted = (self._unet(x, t, c[None], label) for c in context)
            return empty + settings.guidance_scale * (prompted - empty)
        return self._unet(x, t, context, label)

    def _unet(self, x: Tensor, t: Tensor, context: Tensor | None, label: Tensor | None) -> Tensor:
        dtype = self.unet.dtype
        if context is not None:
            context = context.to(dtype).expand(len(x), -1, -1)
        if label is not None:
            label = label.expand(len(x))
        return self.unet(x.to(dtype), t, context, class_labels=label, return_dict=False)[0]

    def step_noise(
        self, settings: ImageLDMSettings, noise: Noise, step: int, first: int, latents: Tensor
    ) -> dict[str, Tensor | float]:
        """Arguments that make a stochastic scheduler's step use noise by position."""
        accepted = inspect.signature(self.scheduler.step).parameters
        stochastic = settings.eta > 0 or "sde" in str(self.scheduler.config.get("algorithm_type"))
        if "variance_noise" not in accepted or not stochastic:
            return {}
        channels, height, width = latents.shape[1:]
        frames = range(first, first + len(latents))
        drawn = noise("step", frames, (channels, height, width), step).to(latents.device)
        extra: dict[str, Tensor | float] = {"variance_noise": drawn}
        return {**extra, "eta": settings.eta} if "eta" in accepted else extra
