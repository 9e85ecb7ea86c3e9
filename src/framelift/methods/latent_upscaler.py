"""A latent image upscaler's components and one evaluation of its network.

What the per-frame baseline samples frame by frame and StableVSR sweeps over a clip: a UNet that
denoises latents beside the LR frame (Rombach et al., "High-Resolution Image Synthesis with Latent
Diffusion Models", CVPR 2022, §4.4).
"""

import copy
import inspect
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, SchedulerMixin, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from framelift.diffusion.block_transform import BT601, BlockTransformCodec, BoundTransform
from framelift.diffusion.codecs import LatentCodec, as_codec
from framelift.methods.base import Noise, VSRPipeline
from framelift.methods.settings import LatentUpscalerSettings
from framelift.ops.resize import upscale


class BoundCodec:
    """A codec bound to LR frames `lr` `[T, 3, h, w]` in [-1, 1], from which it takes nothing."""

    def __init__(self, codec: LatentCodec, lr: Tensor, scale: int) -> None:
        self.codec, self.lr, self.scale = codec, lr, scale

    @cached_property
    def enlarged(self) -> Tensor:
        """The bicubic enlargement `[T, 3, H, W]`."""
        return upscale(self.lr.float(), self.scale)

    def to_latents(self, hr: Tensor) -> Tensor:
        """See `LatentCodec`."""
        return self.codec.to_latents(hr, self.lr)

    def to_frames(self, latents: Tensor) -> Tensor:
        """See `LatentCodec`."""
        return self.codec.to_frames(latents, self.lr).float()

    def guidance(self, picture: Tensor) -> Tensor:
        """See `LatentCodec`."""
        return self.codec.guidance(picture, self.lr)

    def from_guidance(self, guidance: Tensor) -> Tensor:
        """The picture that `guidance` shows."""
        return guidance.float()


class LatentUpscaler(VSRPipeline):
    """Base of pipelines over an image upscaler.

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
        multiple = 2 ** (len(unet.config["block_out_channels"]) - 1)
        self.limits = replace(self.limits, size_multiple=multiple)

    @property
    def codec(self) -> LatentCodec:
        return as_codec(self.vae)

    def bind(self, lr: Tensor) -> BoundCodec | BoundTransform:
        """The codec for frames `lr`; what depends on them alone is computed once."""
        if isinstance(self.vae, BlockTransformCodec):
            return self.vae.bind(lr)
        return BoundCodec(self.codec, lr, self.scale)

    def condition(
        self, lr: Tensor, settings: LatentUpscalerSettings, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """The LR frames as the UNet sees them, with the noise level that its label states."""
        if self.unet.config["num_class_embeds"] is None:
            return self.codec.condition(lr), None
        level = self.config["noise_level"] if settings.noise_level is None else settings.noise_level
        level = torch.tensor([level], device=lr.device)
        channels, height, width = lr.shape[1:]
        lr_noise = noise("lr", len(lr), (channels, height, width)).to(lr.device)
        return self.codec.condition(self.low_res_scheduler.add_noise(lr, lr_noise, level)), level

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
        return self.text_encoder(tokens.input_ids.to(self.text_encoder.device))[0]

    def new_scheduler(self, settings: LatentUpscalerSettings) -> Any:
        """A scheduler set to the sampling steps, with nothing remembered of other samples."""
        own = self.config["timesteps"]
        steps = settings.steps or self.config["steps"]
        scheduler = copy.deepcopy(self.scheduler)
        if own and len(own) == steps:
            scheduler.set_timesteps(timesteps=own, device=self.unet.device)
        else:
            scheduler.set_timesteps(steps, device=self.unet.device)
        return scheduler

    def denoise(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None,
        label: Tensor | None,
        settings: LatentUpscalerSettings,
        residuals: Any = None,
    ) -> Tensor:
        """The UNet's output for noisy latents beside the LR frame `x`, float32.

        `residuals` (down, mid), one pair for each row of `context`, are added inside the UNet.
        """
        if context is not None and len(context) == 2:
            pairs = residuals or (None, None)
            empty, prompted = (
                self._unet(x, t, c[None], label, r) for c, r in zip(context, pairs, strict=True)
            )
            return empty + settings.guidance_scale * (prompted - empty)
        return self._unet(x, t, context, label, residuals[0] if residuals else None)

    def network_inputs(
        self, x: Tensor, context: Tensor | None, label: Tensor | None
    ) -> dict[str, Any]:
        """`x`, the text and the label as a network wants them: its precision, one row a frame."""
        dtype = self.unet.dtype
        return {
            "sample": x.to(dtype),
            "encoder_hidden_states": None
            if context is None
            else context.to(dtype).expand(len(x), -1, -1),
            "class_labels": None if label is None else label.expand(len(x)),
        }

    def _unet(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None,
        label: Tensor | None,
        residuals: tuple[list[Tensor], Tensor] | None,
    ) -> Tensor:
        down, mid = residuals or (None, None)
        (output,) = self.unet(
            timestep=t,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
            **self.network_inputs(x, context, label),
        )
        return output.float()

    def estimate(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """x̃₀, the state at t = 0 that a network output implies (StableVSR eq. 6); `t` `[B]` or 0-d.

        For output v (Salimans & Ho 2022), ε (Ho et al. 2020) or x₀, as the scheduler says.
        """
        alpha, sigma = self.alpha_sigma(t)
        kind = self.scheduler.config["prediction_type"]
        if kind == "v_prediction":
            return alpha * x_t - sigma * output
        return (x_t - sigma * output) / alpha if kind == "epsilon" else output

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1−ᾱ_t), each `[B, 1, 1, 1]`."""
        cumulative = self.scheduler.alphas_cumprod.to(t.device)[t].reshape(-1, 1, 1, 1)
        return cumulative.sqrt(), (1 - cumulative).sqrt()

    def step_noise(
        self,
        scheduler: Any,
        settings: LatentUpscalerSettings,
        noise: Noise,
        step: int,
        first: int,
        latents: Tensor,
    ) -> dict[str, Tensor | float]:
        """Arguments that make a stochastic scheduler's step use noise by position."""
        accepted = inspect.signature(scheduler.step).parameters
        eta = self.config["eta"] if settings.eta is None else settings.eta
        stochastic = eta > 0 or "sde" in str(scheduler.config.get("algorithm_type"))
        if "variance_noise" not in accepted or not stochastic:
            return {}
        channels, height, width = latents.shape[1:]
        frames = range(first, first + len(latents))
        drawn = noise("step", frames, (channels, height, width), step).to(latents.device)
        extra: dict[str, Tensor | float] = {"variance_noise": drawn}
        return {**extra, "eta": eta} if "eta" in accepted else extra

    def emphasize(
        self,
        frames: Tensor,
        codec: BoundCodec | BoundTransform,
        settings: LatentUpscalerSettings,
    ) -> Tensor:
        """Scale what the luma has gained over the bicubic enlargement by `detail`."""
        detail = self.config["detail"] if settings.detail is None else settings.detail
        if detail == 1:
            return frames
        luma = torch.tensor(BT601[0], device=frames.device)[None, :, None, None]
        return frames + F.conv2d(frames - codec.enlarged, (detail - 1) * luma)

    def to_output(
        self,
        frames: Tensor,
        codec: BoundCodec | BoundTransform,
        settings: LatentUpscalerSettings,
    ) -> Tensor:
        """Decoded frames as the caller gets them: emphasized, in [0, 1]."""
        return (self.emphasize(frames, codec, settings) + 1).div_(2).clamp_(0, 1)
