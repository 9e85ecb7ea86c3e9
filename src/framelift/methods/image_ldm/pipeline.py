"""Per-frame latent diffusion upscaler: the baseline on which StableVSR stands.

The published preset is Stability's ×4 upscaler (Rombach et al., "High-Resolution Image Synthesis
with Latent Diffusion Models", CVPR 2022; weights `stabilityai/stable-diffusion-x4-upscaler`,
CreativeML Open RAIL++-M). With the same components, latents and noise it computes what diffusers'
`StableDiffusionUpscalePipeline` computes.

Differs from it: frames instead of one image; noise is a function of position; a UNet without
noise-level label gets the clean LR frame; timesteps may come from the preset; `detail` may scale
what the luma gains over bicubic; no safety checker and no watermark.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from framelift.diffusion.samplers import Sampler, Trajectory
from framelift.methods.base import Noise, OnStep, Step
from framelift.methods.image_ldm.settings import ImageLDMSettings
from framelift.methods.latent_upscaler import LatentUpscaler
from framelift.ops.noise import PositionNoise


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser gets beside x_t: the LR frames `[T, k, h, w]`, a text, a noise level."""

    frames: Tensor
    context: Tensor | None
    label: Tensor | None


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
        device = self._execution_device
        lr = frames.to(device) * 2 - 1
        context = self.encode_prompt(settings)
        condition, label = self.condition(lr, settings, noise)
        sampler = self.sampler(settings)
        start = noise("start", len(lr), self.latent_size(lr)).to(device)
        output, total = [], len(sampler)
        for first in range(0, len(lr), settings.batch):
            part = slice(first, first + settings.batch)
            beside = Conditioning(condition[part], context, label)
            latents = start[part]
            for way, _ in self.sample(sampler, start[part], beside, settings, noise, first):
                latents = way.x_t
                if on_step:
                    done = (first + len(latents) * way.steps / total) / len(lr)
                    t = int(sampler.timesteps[way.steps - 1])
                    on_step(Step(way.steps - 1, total, t, done))
            codec = self.codec(lr[part])
            output.append(self.to_output(codec.decode(latents), codec, settings))
        return torch.cat(output).contiguous()

    def sample(
        self,
        sampler: Sampler,
        start: Tensor,
        beside: Conditioning,
        settings: ImageLDMSettings,
        noise: Noise,
        first: int = 0,
        unet: nn.Module | None = None,
    ) -> Iterator[tuple[Trajectory, Tensor]]:
        """The sampling loop, for inference and training: the state after every step, and its x̃₀.

        `start` `[n, c, h, w]` is standard normal noise, `first` the number of its first frame.
        """
        frames = range(first, first + len(start))
        channels, height, width = start.shape[1:]
        way = sampler.begin(start)
        for i, t in enumerate(sampler.timesteps):
            x = torch.cat([way.network_input(), beside.frames], dim=1)
            output = self.denoise(x, t, beside.context, beside.label, settings, unet=unet)
            estimate = way.estimate(output)
            way.step(output, partial(noise, "step", frames, (channels, height, width), i))
            yield way, estimate
