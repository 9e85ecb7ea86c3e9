"""The pseudo-text adapter: a text-to-video UNet that reads low-resolution frames as its text.

Wang, "Research on Video Super-Resolution Technology Based on Diffusion Model", master's thesis,
Cyprus University of Technology, 2024. Sections, tables and figures are the thesis';
docs/methods/pseudo_text.md says what differs and why. The UNet and the VAE come from
Upscale-A-Video (Zhou et al., CVPR 2024), or the UNet from ModelScope's text-to-video model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, SchedulerMixin, UNet3DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, ViTModel

from framelift.diffusion.codecs import latent_space
from framelift.diffusion.samplers import Sampler, Trajectory
from framelift.errors import UsageError
from framelift.methods.base import Noise, OnStep, Step, VSRPipeline
from framelift.methods.pseudo_text.adapter import PseudoTextAdapter
from framelift.methods.pseudo_text.inflated_unet import InflatedUNet
from framelift.methods.pseudo_text.postprocess import postprocess
from framelift.methods.pseudo_text.settings import PseudoTextSettings, post_steps
from framelift.methods.pseudo_text.sft_vae import ClipCodec, SFTAutoencoderKL
from framelift.ops.noise import PositionNoise
from framelift.ops.windows import Window, sliding_windows
from framelift.types import Limits


@dataclass(frozen=True)
class Conditioning:
    """What the UNet gets beside x_t, for the windows of a clip.

    `texts` `[1, N, D]` one for each window; `lr` `[1, 3, T, h, w]`, or None for a UNet that sees
    only latents; `label` the noise level of these frames.
    """

    windows: Sequence[Window]
    texts: Sequence[Tensor]
    lr: Tensor | None
    label: Tensor | None


class PseudoTextPipeline(VSRPipeline):
    """LR clip [0, 1] → clip four times the size.

    ViT, UNet and VAE are frozen; the adapter alone is trained. `vae` is the guided one, `plain_vae`
    the 3D one of Figure 4.6. Every part may be missing while the bundled ones are trained.
    `finish` are the steps of post-processing, joined by "+".
    """

    settings_class = PseudoTextSettings
    model_cpu_offload_seq = "vit->adapter->text_encoder->unet->plain_vae->vae"
    _optional_components = [  # noqa: RUF012
        *("vit", "adapter", "unet", "vae", "scheduler", "plain_vae", "low_res_scheduler"),
        *("text_encoder", "tokenizer"),
    ]
    limits = Limits(window=26, overlap=2)

    def __init__(
        self,
        vit: ViTModel | None = None,
        adapter: PseudoTextAdapter | None = None,
        unet: InflatedUNet | UNet3DConditionModel | None = None,
        vae: SFTAutoencoderKL | AutoencoderKL | None = None,
        scheduler: SchedulerMixin | None = None,
        plain_vae: SFTAutoencoderKL | AutoencoderKL | None = None,
        low_res_scheduler: DDPMScheduler | None = None,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
        steps: int = 30,
        eta: float = 0.0,
        noise_level: int = 120,
        unet_window: int = 8,
        unet_overlap: int = 2,
        vit_input: str = "resize",
        init: str = "gaussian",
        finish: str = "wavelet+nlm",
    ) -> None:
        super().__init__()
        self.register_modules(
            vit=vit,
            adapter=adapter,
            unet=unet,
            vae=vae,
            scheduler=scheduler,
            plain_vae=plain_vae,
            low_res_scheduler=low_res_scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self.register_to_config(
            steps=steps,
            eta=eta,
            noise_level=noise_level,
            unet_window=unet_window,
            unet_overlap=unet_overlap,
            vit_input=vit_input,
            init=init,
            finish=finish,
        )
        factor = self.scale if vae is None else latent_space(vae).factor
        self.limits = replace(self.limits, size_multiple=max(1, factor // self.scale))

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,
        *,
        settings: PseudoTextSettings | None = None,
        noise: Noise | None = None,
        mask: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Upscale `[T, 3, h, w]` (see `VSRPipeline`)."""
        settings = settings or PseudoTextSettings()
        noise = noise or PositionNoise()
        self._check(settings)
        lr = frames.to(self._execution_device) * 2 - 1
        codec = self.codec(lr, settings)
        if settings.diffusion:
            beside = self.condition(lr, settings, noise)
            latents = self.start(codec, settings, noise)
            sampler = self.sampler(settings)
            for i, _, x in self.sample(sampler, latents, beside, noise):
                latents = x
                if on_step:
                    t, total = int(sampler.timesteps[i]), len(sampler)
                    on_step(Step(i, total, t, (i + 1) / total))
        else:
            latents = codec.encode(codec.enlarged)
        decoded = (codec.decode(latents) + 1) / 2
        usual, own = self.config["finish"], settings.postprocess
        steps = post_steps(usual if own is None else own)
        return postprocess(steps, decoded, (codec.enlarged + 1) / 2)

    def codec(self, lr: Tensor, settings: PseudoTextSettings) -> ClipCodec:
        """The codec of a clip with the LR frames `lr` `[T, 3, h, w]` in [-1, 1]."""
        vae = self.vae
        if settings.vae == "3d" and self.plain_vae is not None:
            vae = self.plain_vae
        weight = 0.0 if settings.vae == "3d" else settings.sft_weight
        return ClipCodec(vae, lr, weight)

    def look(self, lr: Tensor, settings: PseudoTextSettings) -> Tensor:
        """What the ViT sees in frames `[N, 3, h, w]` in [-1, 1]: tokens `[N, n, d]`.

        "resize" brings the frames to the ViT's own size, "interpolate" its positions to the frames
        (whose sides become multiples of a patch).
        """
        interpolate = (settings.vit_input or self.config["vit_input"]) == "interpolate"
        of: Any = self.vit.config
        patch, side = of.patch_size, of.image_size
        size = (side, side)
        if interpolate:
            height, width = (max(1, round(length / patch)) * patch for length in lr.shape[-2:])
            size = (height, width)
        seen = F.interpolate(lr.float(), size, mode="bicubic", antialias=True).clamp(-1, 1)
        seen = seen.to(self.vit.dtype)
        return self.vit(seen, interpolate_pos_encoding=interpolate).last_hidden_state

    def empty_prompt(self) -> Tensor:
        """The text of a clip without condition `[1, N, D]`: "" where there is a text encoder.

        Otherwise one token of zeros, as the bundled UNet saw where its text was left out.
        """
        device = self._execution_device
        if self.text_encoder is None:
            of: Any = self.unet.config
            return torch.zeros(1, 1, of["cross_attention_dim"], device=device)
        tokens = self.tokenizer(
            [""],
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return self.text_encoder(tokens.input_ids.to(device))[0]

    def condition(self, lr: Tensor, settings: PseudoTextSettings, noise: Noise) -> Conditioning:
        """Windows, their pseudo-text, and the LR frames as the UNet sees them."""
        length, overlap = self._setting(settings, "unet_window"), self.config["unet_overlap"]
        windows = sliding_windows(len(lr), length, min(overlap, length - 1))
        if settings.condition:
            seen = self.look(lr, settings).to(self.adapter.dtype)
            texts = [self.adapter(seen[None, w.start : w.stop]) for w in windows]
        else:
            texts = [self.empty_prompt()] * len(windows)
        if not self.sees_lr:
            return Conditioning(windows, texts, None, None)
        label = None
        if self.unet.config.get("num_class_embeds") is not None:
            if self.low_res_scheduler is None:
                raise UsageError(
                    "The UNet wants to be told the noise level of the LR frames, "
                    "but there is no low_res_scheduler to make it.",
                    "Add that component to the preset.",
                )
            level = self._setting(settings, "noise_level")
            label = torch.tensor([level], device=lr.device)
            size = (lr.shape[1], lr.shape[2], lr.shape[3])
            added = noise("lr", len(lr), size).to(lr.device)
            made: Any = self.low_res_scheduler.add_noise(lr, added, label)
            lr = made
        return Conditioning(windows, texts, lr.transpose(0, 1)[None], label)

    @property
    def sees_lr(self) -> bool:
        """Whether the UNet takes the LR frames beside the latents (ModelScope's does not)."""
        return self.unet.config["in_channels"] > latent_space(self.vae).channels

    def start(self, codec: ClipCodec, settings: PseudoTextSettings, noise: Noise) -> Tensor:
        """What sampling begins with `[T, c, h, w]` (section 4.1.3)."""
        frames, (height, width) = len(codec.lr), codec.enlarged.shape[-2:]
        device, kind = codec.lr.device, self._setting(settings, "init")
        if kind == "gaussian":
            size = latent_space(self.vae).size(height, width)
            return noise("start", frames, size).to(device)
        latents = codec.encode(noise("start", frames, (3, height, width)).to(device))
        if kind == "encoder-raw":
            return latents
        deviation, mean = torch.std_mean(latents, (0, 2, 3), keepdim=True)
        return (latents - mean) / deviation

    def sampler(self, settings: PseudoTextSettings) -> Sampler:
        """The scheduler, set to the steps."""
        eta = self.config["eta"] if settings.eta is None else settings.eta
        return Sampler(self.scheduler, self._setting(settings, "steps"), None, eta)

    def sample(
        self, sampler: Sampler, start: Tensor, beside: Conditioning, noise: Noise
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield every step's index, its x̃₀ and where it leads, `[T, c, h, w]`."""
        path = Trajectory(sampler, sampler.begin(start).x_t)
        frames, channels, height, width = start.shape
        for i, t in enumerate(sampler.timesteps):
            output = self.predict(path.network_input(), t, beside)
            estimate = path.estimate(output)
            path.step(output, partial(noise, "step", frames, (channels, height, width), i))
            yield i, estimate, path.x_t

    def predict(self, x_t: Tensor, t: Tensor | float, beside: Conditioning) -> Tensor:
        """The UNet's output for a clip `[T, c, h, w]`, float32.

        Windows are predicted one by one; where a later one sees a frame again, half of what there
        was and half of its own are kept, so that no seam in time arises.
        """
        output: Tensor | None = None
        for window, text in zip(beside.windows, beside.texts, strict=True):
            part = slice(window.start, window.stop)
            lr = None if beside.lr is None else beside.lr[:, :, part]
            made = self.denoise(x_t[part].transpose(0, 1)[None], t, text, lr, beside.label)
            made = made[0].transpose(0, 1)
            if output is None:
                output = torch.empty_like(x_t, dtype=torch.float32)
            shared = window.overlap
            again = slice(window.start, window.start + shared)
            output[again] = (output[again] + made[:shared]) / 2
            output[window.start + shared : window.stop] = made[shared:]
        assert output is not None
        return output

    def denoise(
        self,
        x_t: Tensor,
        t: Tensor | float,
        text: Tensor,
        lr: Tensor | None,
        label: Tensor | None,
        unet: nn.Module | None = None,
    ) -> Tensor:
        """The UNet's output for clips `[B, c, T, h, w]`, float32; training passes its `unet`."""
        dtype = self.unet.dtype
        x = x_t if lr is None else torch.cat([x_t, lr], dim=1)
        run: Callable[..., Any] = unet or self.unet
        labels = {} if label is None else {"class_labels": label.expand(len(x))}
        t = torch.as_tensor(t, device=x.device)
        (output,) = run(x.to(dtype), t, text.to(dtype), return_dict=False, **labels)
        return output.float()

    def _setting(self, settings: PseudoTextSettings, name: str) -> Any:
        own = getattr(settings, name)
        return self.config[name] if own is None else own

    def _check(self, settings: PseudoTextSettings) -> None:
        needed = ["vae"]
        if settings.diffusion:
            needed += ["unet", "scheduler"]
            needed += ["vit", "adapter"] if settings.condition else []
        for name in needed:
            if getattr(self, name) is None:
                raise UsageError(
                    f"This pipeline has no {name}: it is one to train from.",
                    "Train its stages (framelift train pseudo_text_…), or use another preset.",
                )
        if settings.vae == "3d" and self.plain_vae is None and self.vae.config.get("residual"):
            raise UsageError(
                "This preset has no plain decoder.", "Use vae=sft, or a preset with a plain_vae."
            )
