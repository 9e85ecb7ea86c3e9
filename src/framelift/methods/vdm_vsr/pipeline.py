"""VDM-VSR: video super-resolution by diffusion posterior sampling with a video diffusion prior.

Zhan, Pang, Zhu and Bai, "Rethinking Video Super-Resolution: Towards Diffusion-Based Methods without
Motion Alignment", 2025. Equations, sections and Algorithm 1 are the paper's;
docs/methods/vdm_vsr.md says what differs and why. Nothing here was trained on pairs: the operator
is an argument.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor

from framelift.degrade.stages.observe import Observation
from framelift.diffusion.codecs import KLCodec, LatentSpace, latent_space
from framelift.diffusion.parameterisation import prediction_of
from framelift.diffusion.samplers import Sampler
from framelift.errors import UsageError
from framelift.methods.base import ClipInfo, Noise, OnStep, Step, VSRPipeline
from framelift.methods.vdm_vsr.linear_autoencoder import LinearAutoencoderKL
from framelift.methods.vdm_vsr.measurement import Measurement, Operator
from framelift.methods.vdm_vsr.psld import gluing
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.methods.vdm_vsr.transition import Transition
from framelift.ops.noise import PositionNoise
from framelift.ops.windows import Window, sliding_windows
from framelift.types import Limits


class VDMVSRPipeline(VSRPipeline):
    """LR clip [0, 1] → clip `downscale` times the size, under a known operator.

    `frames`, `height` and `width` are the clip that the prior was trained on, in HR pixels; shorter
    clips are completed by unobserved frames. `step_size` holds ζ for each factor.
    """

    settings_class = VDMVSRSettings
    model_cpu_offload_seq = "transformer->vae"
    _optional_components = ["transformer"]  # noqa: RUF012
    limits = Limits(window=10, overlap=2, tile_overlap=4, noise_block=8)

    def __init__(
        self,
        vae: AutoencoderKL | LinearAutoencoderKL,
        scheduler: DDPMScheduler,
        transformer: STDiT | None = None,
        frames: int = 10,
        height: int = 64,
        width: int = 64,
        steps: int = 1000,
        step_size: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, scheduler=scheduler, transformer=transformer)
        self.register_to_config(
            frames=frames, height=height, width=width, steps=steps, step_size=step_size or {}
        )
        for network in (vae, transformer):
            if network is not None:
                network.requires_grad_(False)

    @property
    def latent_space(self) -> LatentSpace:
        """What the codec's latents look like."""
        return latent_space(self.vae)

    def codec(self, lr: Tensor | None = None) -> KLCodec:
        """The codec of single frames; it takes nothing from their LR versions."""
        return KLCodec(self.vae, lr)

    def scale_of(self, settings: VDMVSRSettings) -> int:
        """The enlargement is the factor of the operator."""
        return settings.downscale

    @property
    def token(self) -> int:
        """Side in pixels of the square that a token of the prior stands for."""
        patch = 1 if self.transformer is None else self.transformer.config["patch_size"]
        return self.latent_space.factor * patch

    def limits_for(self, settings: VDMVSRSettings) -> Limits:
        """Tiles have the prior's own size, and begin on whole tokens.

        A side of so many LR pixels is `downscale` times as many HR ones; the multiples are the
        least for which these are whole tokens.
        """
        s = settings.downscale
        multiple = self.token // math.gcd(self.token, s)
        side = max(self.config["height"], self.config["width"])
        tile = _nearest(side, s * multiple) // s
        return replace(self.limits, size_multiple=multiple, tile=tile)

    def plan(self, info: ClipInfo, window: int, overlap: int) -> list[Window]:
        """Windows of the prior's length; a shot's last one reaches back for full length."""
        return sliding_windows(info.frames, window, overlap, info.cuts)

    def __call__(
        self,
        frames: Tensor,
        *,
        settings: VDMVSRSettings | None = None,
        noise: Noise | None = None,
        mask: Tensor | None = None,
        on_step: OnStep | None = None,
        operator: Operator | None = None,
    ) -> Tensor:
        """Upscale `[T, 3, h, w]` in [0, 1] (see `VSRPipeline`).

        `mask` `[T]` is M: frames where it is False are not looked at. `operator` replaces the
        settings' own H; it still maps `downscale` times larger frames to frames like these.
        """
        settings = settings or VDMVSRSettings()
        count, height, width = len(frames), *frames.shape[-2:]
        s = settings.downscale
        multiple = self.limits_for(settings).size_multiple
        known = (_nearest(self.config[n], s * multiple) // s for n in ("height", "width"))
        bottom, right = (
            -(-max(side, least) // multiple) * multiple - side
            for side, least in zip((height, width), known, strict=True)
        )  # to whole tokens, and to no smaller pictures than the prior knows
        y = frames.to(self._execution_device) * 2 - 1
        y = F.pad(y, (0, right, 0, bottom), mode="replicate")
        kept = [i for i in range(count) if mask is None or bool(mask[i])]
        if not kept:
            raise UsageError("The mask leaves no frame to look at.", "Keep at least one frame.")
        measurement = Measurement(y[kept], operator or self.operator(settings), tuple(kept))
        size = (max(count, self.config["frames"]), y.shape[-2] * s, y.shape[-1] * s)
        (made,) = self.sample(
            [measurement],
            size,
            settings=settings,
            noises=[noise or PositionNoise(block=self.limits.noise_block)],
            on_step=on_step,
        )
        return ((made[:count, :, : height * s, : width * s] + 1) / 2).clamp(0, 1)

    @staticmethod
    def operator(settings: VDMVSRSettings) -> Observation:
        """H of eq. 12: blur and decimate."""
        return Observation(settings.downscale, settings.blur_sigma, decimation=settings.decimation)

    @torch.enable_grad()
    def sample(
        self,
        measurements: Sequence[Measurement] | None,
        size: tuple[int, int, int],
        *,
        settings: VDMVSRSettings,
        noises: Sequence[Noise],
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Algorithm 1 for a batch of clips of `size` (T, H, W); each has a noise of its own.

        Without measurements, clips of the prior alone. Returns X̂ `[B, T, 3, H, W]` in [-1, 1], not
        clamped.
        """
        self._check(settings, guided=measurements is not None)
        frames, shape = size[0], self.latent_space.size(*size[1:])
        device = self._execution_device

        def draw(stream: str, step: int = 0) -> Tensor:
            fields = [noise(stream, frames, shape, step).transpose(0, 1) for noise in noises]
            return torch.stack(fields).to(device)

        z = draw("start")  # line 1
        z0 = z
        timesteps = self.timesteps(settings)
        for i, (t, s) in enumerate(pairwise([*timesteps, -1])):  # line 2
            z = z.detach().requires_grad_(measurements is not None)
            step = self.transition(t, s, device)
            with torch.set_grad_enabled(z.requires_grad):
                output, v = self.denoise(z, t)
                z0 = step.z0(z, output, prediction_of(self.scheduler))  # lines 3, 4
            with torch.no_grad():
                z_next = step.mean(z, z0)  # lines 5 and 6
                if s >= 0:
                    z_next = z_next + step.sigma(v, z) * draw("step", i)
            residual = None
            if measurements is not None:
                objective, residuals = self.discrepancy(z0, measurements, settings)  # line 7
                (gradient,) = torch.autograd.grad(objective.sum(), z)
                z_next = z_next - self.step_size(settings, step) * gradient  # line 8
                residual = float(residuals.detach().mean()) if on_step else None
            z, z0 = z_next, z0.detach()
            if on_step:
                on_step(Step(i, len(timesteps), t, (i + 1) / len(timesteps), residual))
        with torch.no_grad():
            return self.decode(z0.transpose(1, 2))  # line 10

    def discrepancy(
        self, z0: Tensor, measurements: Sequence[Measurement], settings: VDMVSRSettings
    ) -> tuple[Tensor, Tensor]:
        """What shall become small for each clip, and ‖Y - M(H(D(Ẑ0)))‖ itself, both `[B]`.

        Only frames that are observed are decoded.
        """
        clips = [
            z if m.kept is None else z[:, list(m.kept)]
            for z, m in zip(z0, measurements, strict=True)
        ]
        together = torch.cat(clips, dim=1).transpose(0, 1)
        decoded = self.decode(together[None])[0].split([clip.shape[1] for clip in clips])
        each = [
            torch.linalg.vector_norm((m.y - m.operator(x)).flatten(1), dim=1)
            for x, m in zip(decoded, measurements, strict=True)
        ]  # of every frame of every clip
        residuals = torch.stack([torch.linalg.vector_norm(of_frames) for of_frames in each])
        if settings.norm == "frames":
            objective = torch.stack([of_frames.sum() for of_frames in each])
        else:
            objective = residuals if settings.norm == "unsquared" else residuals**2
        if settings.psld:
            objective = objective + settings.psld * gluing(self.codec(), z0, measurements)
        return objective, residuals

    def denoise(self, z: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """The prior's output and v, each like `z` `[B, c, T, h, w]` and of its precision.

        The output is ε̂, or what else the scheduler's `prediction_type` names; there is no v where
        its `variance_type` is fixed_small.
        """
        assert self.transformer is not None
        inputs = z.to(self.transformer.dtype)
        output = self.transformer(inputs, torch.tensor(t, device=z.device)).to(z.dtype)
        if output.shape[1] == z.shape[1]:
            return output, None
        output, v = output.chunk(2, dim=1)
        return output, v if self.scheduler.config["variance_type"] == "learned_range" else None

    def decode(self, z: Tensor) -> Tensor:
        """D, frame by frame: `[B, T, c, h, w]` → `[B, T, 3, H, W]`."""
        frames = self.codec().decode(z.flatten(0, 1))
        return frames.unflatten(0, z.shape[:2])

    def transition(self, t: int, s: int, device: torch.device) -> Transition:
        """The reverse step from t to s (-1: the end), on the device of the latents."""
        at, to = (torch.tensor(step, device=device) for step in (t, s))
        return Transition(self.scheduler.alphas_cumprod, at, to)

    def timesteps(self, settings: VDMVSRSettings) -> list[int]:
        """Sampling steps, from noisy to clean."""
        sampler = Sampler(self.scheduler, settings.steps or self.config["steps"])
        return [int(t) for t in sampler.timesteps]

    def step_size(self, settings: VDMVSRSettings, step: Transition) -> Tensor:
        """η_t of a step, 0-d."""
        zeta = settings.step_size
        if zeta is None:
            zeta = self.config["step_size"][str(settings.downscale)]
        scales = {"decaying": (1 - step.alpha_bar).sqrt(), "rising": step.alpha_bar.sqrt()}
        scale = scales.get(settings.step_schedule, torch.ones_like(step.alpha_bar))
        return zeta * scale.double()

    def _check(self, settings: VDMVSRSettings, guided: bool) -> None:
        if self.transformer is None:
            raise UsageError(
                "This pipeline has an autoencoder but no prior.", "Train one from it (stage prior)."
            )
        known = self.config["step_size"]
        if guided and settings.step_size is None and str(settings.downscale) not in known:
            raise UsageError(
                f"This preset knows no step size for a factor of {settings.downscale}.",
                f"Set step_size, or use a factor of {', '.join(known) or 'none'}.",
            )
        for network in (self.vae, self.transformer):
            if settings.checkpointing:
                network.enable_gradient_checkpointing()
            else:
                network.disable_gradient_checkpointing()


def _nearest(side: int, multiple: int) -> int:
    """The multiple, above zero, that comes nearest to `side`."""
    return max(1, round(side / multiple)) * multiple
