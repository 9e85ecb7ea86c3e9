"""SATeCo: spatial adaptation and temporal coherence in a latent diffusion model's decoders.

Chen, Long, Qiu, Yao, Zhou, Luo and Mei, "Learning Spatial Adaptation and Temporal Coherence in
Diffusion Models for Video Super-Resolution", CVPR 2024. Sections and equations are the paper's;
docs/methods/sateco.md says what differs and why.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from framelift.diffusion.codecs import KLCodec, latent_space
from framelift.diffusion.parameterisation import add_noise
from framelift.diffusion.patch_autoencoder import PatchAutoencoderKL
from framelift.diffusion.samplers import Sampler, Trajectory
from framelift.errors import UsageError
from framelift.methods.base import Noise, OnStep, Step, VSRPipeline
from framelift.methods.sateco.adapters import SATeCoAdapters, encode_with_features
from framelift.methods.sateco.latent_encoder import LatentEncoder
from framelift.methods.sateco.refiner import VideoRefiner
from framelift.methods.sateco.settings import SATeCoSettings
from framelift.methods.sateco.upscaler import VideoUpscaler
from framelift.ops.noise import PositionNoise
from framelift.types import Limits


@dataclass(frozen=True)
class Guidance:
    """What the LR video tells the decoders, for clips of `frames` frames side by side.

    `z` `[B·L, c, h, w]` is the latent code of X_u; `maps` guide the UNet's decoder (E_z of `z`),
    `features` the VAE's (its encoder's, of X_u), smallest first.
    """

    z: Tensor
    maps: list[Tensor]
    features: list[Tensor]
    frames: int


class SATeCoPipeline(VSRPipeline):
    """LR clip [0, 1] → clip four times the size.

    UNet and VAE are diffusers' own and frozen; `unet_guidance` and `vae_guidance` are the modules
    at the ends of their decoder blocks. A pipeline without the modules is one to train from.
    """

    settings_class = SATeCoSettings
    model_cpu_offload_seq = "text_encoder->upscaler->latent_encoder->unet->vae->refiner"
    _optional_components = [  # noqa: RUF012
        *("upscaler", "latent_encoder", "unet_guidance", "vae_guidance", "refiner"),
        *("text_encoder", "tokenizer"),
    ]
    limits = Limits(window=6, overlap=2)

    def __init__(
        self,
        vae: AutoencoderKL | PatchAutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        upscaler: VideoUpscaler | None = None,
        latent_encoder: LatentEncoder | None = None,
        unet_guidance: SATeCoAdapters | None = None,
        vae_guidance: SATeCoAdapters | None = None,
        refiner: VideoRefiner | None = None,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
        timesteps: list[int] | None = None,
        steps: int = 50,
        eta: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            upscaler=upscaler,
            latent_encoder=latent_encoder,
            unet_guidance=unet_guidance,
            vae_guidance=vae_guidance,
            refiner=refiner,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self.register_to_config(timesteps=timesteps, steps=steps, eta=eta)
        self.scale = 4 if upscaler is None else upscaler.config["scale"]
        halvings = 2 ** (len(unet.config["block_out_channels"]) - 1)
        multiple = max(1, latent_space(vae).factor * halvings // self.scale)
        self.limits = replace(self.limits, size_multiple=multiple)

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,
        *,
        settings: SATeCoSettings | None = None,
        noise: Noise | None = None,
        mask: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Upscale a clip `[T, 3, h, w]` (see `VSRPipeline`); the paper's has six frames."""
        self._check()
        settings = settings or SATeCoSettings()
        noise = noise or PositionNoise()
        lr = frames.to(self._execution_device)
        x_u = self.enlarge(lr)  # section 3.1
        guidance = self.guide(x_u, len(lr))
        sampler = self.sampler(settings)
        z = guidance.z
        for i, _, z_t in self.sample(sampler, guidance, settings, noise):  # sections 3.2 and 3.3
            z = z_t
            if on_step:
                on_step(Step(i, len(sampler), int(sampler.timesteps[i]), (i + 1) / len(sampler)))
        x_d = self.decode(z, guidance)
        x_h = self.refine(x_u, x_d) if settings.refine else x_d  # section 3.4
        return ((x_h + 1) / 2).clamp(0, 1)

    def enlarge(self, lr: Tensor) -> Tensor:
        """X_u `[..., T, 3, H, W]` in [-1, 1] of clips `[..., T, 3, h, w]` in [0, 1]."""
        return self.upscaler(lr.to(self.upscaler.dtype)).float() * 2 - 1

    def guide(self, x_u: Tensor, frames: int) -> Guidance:
        """Z and both decoders' guidance from X_u `[B·L, 3, H, W]`, L = `frames`."""
        return self.guide_by(*self.encode_enlarged(x_u), frames)

    def encode_enlarged(self, x_u: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Z of X_u `[B·L, 3, H, W]`, and the features of the VAE's encoder, smallest first."""
        posterior, features = encode_with_features(self.vae, x_u.to(self.vae.dtype))
        return KLCodec(self.vae).normalise(posterior.mean.float()), features

    def guide_by(self, z: Tensor, features: list[Tensor], frames: int) -> Guidance:
        """Guidance by what `encode_enlarged` gives."""
        return Guidance(z, self.latent_encoder(z.to(self.latent_encoder.dtype)), features, frames)

    def sampler(self, settings: SATeCoSettings) -> Sampler:
        """The scheduler, set to the preset's own timesteps or to the steps asked for."""
        own, steps = self.config["timesteps"], settings.steps or self.config["steps"]
        eta = self.config["eta"] if settings.eta is None else settings.eta
        return Sampler(self.scheduler, steps, own if own and len(own) == steps else None, eta)

    def sample(
        self,
        sampler: Sampler,
        guidance: Guidance,
        settings: SATeCoSettings,
        noise: Noise,
        denoise: nn.Module | None = None,
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield every step's index, what it takes for x₀, and where it leads; at the end, to Z₀.

        `denoise` stands for `self.denoise` where training wraps what it trains.
        """
        z = guidance.z
        channels, height, width = z.shape[1:]
        size = (channels, height, width)
        context = self.encode_prompt(settings)
        start = noise("start", len(z), size).to(z.device)
        alpha, sigma = sampler.alpha_sigma(0)
        x_t = add_noise(z, start, alpha, sigma) if settings.start == "noised" else start
        path = Trajectory(sampler, x_t)
        for i, t in enumerate(sampler.timesteps):
            # predict, with SFA and TFA at the ends of the decoder's blocks
            output = (denoise or self.denoise)(path.network_input(), t, guidance, context)
            estimate = path.estimate(output)
            # step to the next noise level
            path.step(output.detach(), lambda i=i: noise("step", len(z), size, i).to(z.device))
            yield i, estimate, path.x_t

    def denoise(
        self, x_t: Tensor, t: Tensor | float, guidance: Guidance, context: Tensor | None = None
    ) -> Tensor:
        """The guided UNet's output for `[B·L, c, h, w]`, float32."""
        dtype = self.unet.dtype
        if context is not None:
            context = context.to(dtype).expand(len(x_t), -1, -1)
        blocks: Any = self.unet.up_blocks
        with self.unet_guidance.guided(blocks, guidance.maps, guidance.frames):
            (output,) = self.unet(x_t.to(dtype), t, context, return_dict=False)
        return output.float()

    def decode(self, latents: Tensor, guidance: Guidance) -> Tensor:
        """X_d `[B·L, 3, H, W]` in [-1, 1], not clamped, by the guided VAE decoder."""
        blocks: Any = self.vae.decoder.up_blocks
        with self.vae_guidance.guided(blocks, guidance.features, guidance.frames):
            return KLCodec(self.vae).decode(latents).float()

    def refine(self, x_u: Tensor, x_d: Tensor) -> Tensor:
        """X_H (eq. 5); X_d where there is no refiner."""
        if self.refiner is None:
            return x_d
        dtype = self.refiner.dtype
        return self.refiner(x_u.to(dtype), x_d.to(dtype)).float()

    def encode_prompt(self, settings: SATeCoSettings) -> Tensor | None:
        """Text embedding `[1, 77, d]`, None without a text encoder."""
        if self.text_encoder is None:
            return None
        tokens = self.tokenizer(
            [settings.prompt],
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return self.text_encoder(tokens.input_ids.to(self._execution_device))[0]

    def _check(self) -> None:
        for name in ("upscaler", "latent_encoder", "unet_guidance", "vae_guidance"):
            if getattr(self, name) is None:
                raise UsageError(
                    f"This pipeline has no {name}: it is a base to train SATeCo from.",
                    "Train its stages (framelift train sateco_…), or use another preset.",
                )
