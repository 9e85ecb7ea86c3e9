"""A latent image upscaler's components and one evaluation of its network.

What the per-frame baseline samples frame by frame and StableVSR sweeps over a clip: a UNet that
denoises latents beside the LR frame (Rombach et al., "High-Resolution Image Synthesis with Latent
Diffusion Models", CVPR 2022, §4.4).
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, SchedulerMixin, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from framelift.diffusion.block_transform import BT601, BlockTransformCodec
from framelift.diffusion.codecs import LatentSpace, UpscalerCodec, bind, latent_space
from framelift.diffusion.samplers import Sampler
from framelift.errors import UsageError
from framelift.methods.base import Noise, VSRPipeline
from framelift.methods.settings import LatentUpscalerSettings


class LatentUpscaler(VSRPipeline):
    """Base of pipelines over an image upscaler.

    `timesteps` are the preset's own sampling steps, used when the settings ask for their number
    or for none; other step counts follow the scheduler's spacing.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
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
        eta: float = 0.0,
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
            eta=eta,
        )
        last = self.scheduler.config["num_train_timesteps"] - 1
        falling = [last + 1, *(timesteps or [])]
        if any(not 0 <= b < a for a, b in pairwise(falling)):
            raise ValueError(f"timesteps are {timesteps}, but must fall, from {last} at most to 0")
        multiple = 2 ** (len(unet.config["block_out_channels"]) - 1)
        self.limits = replace(self.limits, size_multiple=multiple)

    @property
    def latent_space(self) -> LatentSpace:
        """What the codec's latents look like."""
        return latent_space(self.vae)

    def latent_size(self, lr: Tensor) -> tuple[int, int, int]:
        """(c, h, w) of a frame's latents: they lie on the LR frames' grid."""
        height, width = lr.shape[-2:]
        return self.latent_space.channels, height, width

    def codec(self, lr: Tensor) -> UpscalerCodec:
        """The codec for frames with the LR versions `lr` `[T, 3, h, w]` in [-1, 1]."""
        return bind(self.vae, lr)

    def warnings(self, settings: LatentUpscalerSettings) -> list[str]:
        """See `VSRPipeline`: a preset tuned for a few timesteps is worse with any others."""
        own, steps = self.config["timesteps"], settings.steps
        if not own or steps is None or steps == len(own):
            return []
        return [
            f"This preset was trained for {len(own)} sampling steps, at which it is best; "
            f"with {steps} its pictures are worse."
        ]

    def condition(
        self, lr: Tensor, settings: LatentUpscalerSettings, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """The LR frames as the UNet sees them, with the noise level that its label states."""
        if self.unet.config["num_class_embeds"] is None:
            return self.codec(lr).condition(), None
        if self.low_res_scheduler is None:
            raise UsageError(
                "The UNet wants to be told the noise level of the LR frames, "
                "but there is no low_res_scheduler to make it.",
                "Add that component, or set bypass_noise_level where the method has it.",
            )
        level = self.config["noise_level"] if settings.noise_level is None else settings.noise_level
        if self.low_res_scheduler is None:
            raise UsageError(
                "The UNet takes a noise level, and there is no low_res_scheduler to add noise.",
                "Add that component to the preset.",
            )
        highest = self.config["max_noise_level"]
        if level > highest:
            raise UsageError(f"noise_level is {level}.", f"This preset knows levels to {highest}.")
        label = torch.tensor([level], device=lr.device)
        channels, height, width = lr.shape[1:]
        lr_noise = noise("lr", len(lr), (channels, height, width)).to(lr.device)
        noisy: Any = self.low_res_scheduler.add_noise(lr, lr_noise, label)
        return self.codec(noisy).condition(), label

    def encode_prompt(self, settings: LatentUpscalerSettings) -> Tensor | None:
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
        return self.text_encoder(tokens.input_ids.to(self._execution_device))[0]

    def sampler(self, settings: LatentUpscalerSettings) -> Sampler:
        """The scheduler, set to the preset's own timesteps or to the steps asked for."""
        own = self.config["timesteps"]
        steps = settings.steps or self.config["steps"]
        eta = self.config["eta"] if settings.eta is None else settings.eta
        return Sampler(self.scheduler, steps, own if own and len(own) == steps else None, eta)

    def denoise(
        self,
        x: Tensor,
        t: Tensor | float,
        context: Tensor | None,
        label: Tensor | None,
        settings: LatentUpscalerSettings,
        residuals: Any = None,
        unet: nn.Module | None = None,
    ) -> Tensor:
        """The UNet's output for noisy latents beside the LR frame `x`, float32.

        `residuals` (down, mid), one pair for each row of `context`, are added inside the UNet.
        Training passes its `unet`, which may be wrapped for several devices.
        """
        rows = [None] if context is None else [c[None] for c in context]
        pairs = residuals or [(None, None)] * len(rows)
        outputs = [
            (unet or self.unet)(
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
                return_dict=False,
                **self.network_inputs(x, t, row, label),
            )[0].float()
            for row, (down, mid) in zip(rows, pairs, strict=True)
        ]
        if len(outputs) == 1:
            return outputs[0]
        empty, prompted = outputs
        return empty + settings.guidance_scale * (prompted - empty)

    def network_inputs(
        self, x: Tensor, t: Tensor | float, context: Tensor | None, label: Tensor | None
    ) -> dict[str, Any]:
        """`x`, the time, the text and the label as a network wants them.

        In its precision, one row a frame.
        """
        dtype = self.unet.dtype
        return {
            "sample": x.to(dtype),
            "timestep": torch.as_tensor(t, device=x.device),
            "encoder_hidden_states": None
            if context is None
            else context.to(dtype).expand(len(x), -1, -1),
            "class_labels": None if label is None else label.expand(len(x)),
        }

    def to_output(
        self, frames: Tensor, codec: UpscalerCodec, settings: LatentUpscalerSettings
    ) -> Tensor:
        """Decoded frames as the caller gets them, in [0, 1].

        What the luma has gained over the bicubic enlargement is scaled by `detail`.
        """
        detail = self.config["detail"] if settings.detail is None else settings.detail
        if detail != 1:
            luma = torch.tensor(BT601[0], device=frames.device)[None, :, None, None]
            frames = frames + F.conv2d(frames - codec.enlarged, (detail - 1) * luma)
        return (frames + 1).div_(2).clamp_(0, 1)
