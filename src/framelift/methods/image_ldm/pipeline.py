"""Per-frame latent diffusion upscaler: the baseline on which StableVSR stands.

The published preset is Stability's ×4 upscaler (Rombach et al., "High-Resolution Image Synthesis
with Latent Diffusion Models", CVPR 2022; weights `stabilityai/stable-diffusion-x4-upscaler`,
CreativeML Open RAIL++-M). With the same components, latents and noise it computes what diffusers'
`StableDiffusionUpscalePipeline` computes.

Differs from it: frames instead of one image; noise is a function of position; a UNet without
noise-level label gets the clean LR frame; timesteps may come from the preset; `detail` may scale
what the luma gains over bicubic; no safety checker and no watermark.
"""

import torch
from torch import Tensor

from framelift.methods.base import Noise, OnStep, Step
from framelift.methods.image_ldm.settings import ImageLDMSettings
from framelift.methods.latent_upscaler import LatentUpscaler
from framelift.ops.noise import PositionNoise


class ImageLDMPipeline(LatentUpscaler):
    """LR frames [0, 1] → frames four times the size, each on its own."""

    settings_class = ImageLDMSettings

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
        device = self.unet.device
        lr = frames.to(device) * 2 - 1
        condition, label = self.condition(lr, settings, noise)
        context = self.encode_prompt(settings)

        height, width = lr.shape[-2:]
        start = noise("start", len(lr), (self.codec.latent_channels, height, width)).to(device)
        output = []
        for first in range(0, len(lr), settings.batch):
            part = slice(first, first + settings.batch)
            scheduler = self.new_scheduler(settings)
            latents = start[part] * scheduler.init_noise_sigma
            for i, t in enumerate(scheduler.timesteps):
                x = torch.cat([scheduler.scale_model_input(latents, t), condition[part]], dim=1)
                v = self.denoise(x, t, context, label, settings)
                extra = self.step_noise(scheduler, settings, noise, i, first, latents)
                latents = scheduler.step(v, t, latents, **extra).prev_sample
                if on_step:
                    total = len(scheduler.timesteps)
                    done = (first + len(latents) * (i + 1) / total) / len(lr)
                    on_step(Step(i, total, int(t), done))
            codec = self.bind(lr[part])
            output.append(self.to_output(codec.to_frames(latents), codec, settings))
        return torch.cat(output)
