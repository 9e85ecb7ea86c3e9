"""STCDiT: a video diffusion transformer for super-resolution of videos whose camera moves.

Chen, Dong, Sun, Yang and Pan, "STCDiT: Spatio-Temporally Consistent Diffusion Transformer for
High-Quality Video Super-Resolution", 2025. docs/methods/stcdit.md says which part of the paper each
function is, what differs and why.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, SchedulerMixin, WanTransformer3DModel
from torch import Tensor, nn
from transformers import T5Tokenizer, UMT5EncoderModel

from framelift.diffusion.codecs import LatentSpace
from framelift.diffusion.samplers import Sampler, Trajectory
from framelift.errors import UsageError
from framelift.methods.base import ClipInfo, Noise, OnStep, Step, VSRPipeline, Watcher
from framelift.methods.stcdit.codec import SegmentCodec, wan_latent_space
from framelift.methods.stcdit.latent_tiles import LatentTile, merge, plan_latent_tiles
from framelift.methods.stcdit.planes import use_planes
from framelift.methods.stcdit.segments import CameraMotion, MotionWatcher, segment, watch
from framelift.methods.stcdit.settings import STCDiTSettings
from framelift.methods.stcdit.velocity import Condition, LinearGuess
from framelift.ops.noise import PositionNoise
from framelift.ops.resize import upscale
from framelift.ops.windows import Window
from framelift.types import Limits

TEXT_TOKENS = 512


class STCDiTPipeline(VSRPipeline):
    """LR clip [0, 1] → clip `enlarge` times the size.

    `tile` is (frames, rows, columns) of latents that the transformer sees at once, `tile_stride`
    the distance of neighbouring tiles as a share of that. `vae_tile` is the side of the pieces in
    which larger frames are coded, in pixels. `residual_std` is the deviation of HR latents from LQ
    ones and makes the transformer's output a correction of a linear guess (`velocity.LinearGuess`);
    None: it is the velocity itself.
    """

    settings_class = STCDiTSettings
    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _optional_components = ["transformer", "text_encoder", "tokenizer"]  # noqa: RUF012
    limits = Limits(window=81, overlap=0, tiling="method")

    def __init__(
        self,
        vae: AutoencoderKLWan,
        scheduler: SchedulerMixin,
        transformer: WanTransformer3DModel | None = None,
        text_encoder: UMT5EncoderModel | None = None,
        tokenizer: T5Tokenizer | None = None,
        steps: int = 10,
        guidance_scale: float = 1.0,
        tile: list[int] | None = None,
        tile_stride: float = 0.95,
        vae_tile: int = 512,
        residual_std: float | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            scheduler=scheduler,
            transformer=transformer,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        tile = tile or [21, 120, 160]
        self.register_to_config(
            steps=steps,
            guidance_scale=guidance_scale,
            tile=tile,
            tile_stride=tile_stride,
            vae_tile=vae_tile,
            residual_std=residual_std,
        )
        use_planes(vae)
        stride = vae_tile * 3 // 4
        vae.enable_tiling(vae_tile, vae_tile, stride, stride)

    @property
    def latent_space(self) -> LatentSpace:
        """What the codec's latents look like."""
        return wan_latent_space(self.vae)

    @property
    def compute_dtype(self) -> torch.dtype:
        """See `VSRPipeline`."""
        return torch.float32 if self.transformer is None else self.transformer.dtype

    def scale_of(self, settings: STCDiTSettings) -> int:
        """Enlargement under these settings."""
        return settings.enlarge

    def watch(self, settings: STCDiTSettings) -> Watcher | None:
        """Follow the camera's motion during the survey."""
        return MotionWatcher(settings)

    def plan(self, info: ClipInfo, window: int, overlap: int) -> list[Window]:
        """Windows of whole segments, of at most `window` frames; none spans a cut of the video.

        Segments are coded apart, so that nothing would be gained by an overlap.
        """
        watcher = info.watcher
        settings, motions = STCDiTSettings(), _still(info.frames)
        if isinstance(watcher, MotionWatcher):
            settings = watcher.settings
            motions = watcher.motions[info.first : info.first + info.frames - 1] or motions
        segments = segment(info.frames, motions, settings, info.cuts, longest=window)
        return _windows(segments, window, info.cuts)

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,
        *,
        settings: STCDiTSettings | None = None,
        noise: Noise | None = None,
        mask: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Upscale a clip `[T, 3, h, w]` in [0, 1] (see `VSRPipeline`)."""
        settings, noise = settings or STCDiTSettings(), noise or PositionNoise()
        self._check()
        codec = SegmentCodec(self.vae, self.segments(frames, settings))
        height, width = (side * settings.enlarge for side in frames.shape[-2:])
        y = codec.encode(self.enlarge(frames.to(self._execution_device), settings.enlarge)[None])
        condition = Condition(y, self.anchors(codec, settings), self.encode_prompt(settings))
        x = y
        sampler = self.sampler(settings)
        for i, x_t in self.sample(sampler, condition, codec.frame_of, settings, noise):
            x = x_t
            if on_step:
                on_step(Step(i, len(sampler), int(sampler.timesteps[i]), (i + 1) / len(sampler)))
        (made,) = codec.decode(x)
        return ((made[..., :height, :width] + 1) / 2).clamp(0, 1)

    def segments(self, frames: Tensor, settings: STCDiTSettings) -> list[range]:
        """The segments of a window, which begin where those of the whole video do."""
        return segment(len(frames), watch(frames, settings), settings)

    def enlarge(self, lr: Tensor, factor: int) -> Tensor:
        """LR frames `[..., 3, h, w]` in [0, 1] as the VAE sees them: bicubic, in [-1, 1].

        The right and lower border is repeated until patches of latents fit.
        """
        y = upscale(lr, factor).clamp(0, 1) * 2 - 1
        patch = 1 if self.transformer is None else self.transformer.config["patch_size"][-1]
        multiple = self.latent_space.factor * patch
        bottom, right = -y.shape[-2] % multiple, -y.shape[-1] % multiple
        padded = F.pad(y.flatten(0, -4), (0, right, 0, bottom), mode="replicate")
        return padded.unflatten(0, y.shape[:-3])

    def anchors(self, codec: SegmentCodec, settings: STCDiTSettings) -> list[int]:
        """Latents that guide: the first of every segment, or as many at even distances."""
        found = codec.anchors
        if settings.anchors == "none":
            return []
        if settings.anchors == "uniform":
            total = sum(codec.counts)
            found = [i * total // len(found) for i in range(len(found))]
        return sorted({*found[:: settings.anchor_interval], found[-1]})

    def sampler(self, settings: STCDiTSettings) -> Sampler:
        """The scheduler at σ = s·u / (1 + (s − 1)·u), u = 1, 1 − 1/n, …, 1/n, s its shift."""
        steps = settings.steps or self.config["steps"]
        return Sampler(self.scheduler, steps, sigmas=[1 - i / steps for i in range(steps)])

    def sample(
        self,
        sampler: Sampler,
        condition: Condition,
        frame_of: Sequence[int],
        settings: STCDiTSettings,
        noise: Noise,
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield every step's index and where it leads, from pure noise to latents like Y.

        `frame_of` are the frames at which latents begin, to which their noise belongs.
        """
        y = condition.y
        scale = settings.guidance_scale
        scale = self.config["guidance_scale"] if scale is None else scale
        size = (y.shape[1], y.shape[-2], y.shape[-1])
        path = Trajectory(sampler, start_noise(noise, frame_of, size).to(y))
        tiles = plan_latent_tiles(y.shape[2:], self.config["tile"], self.config["tile_stride"])
        for i in range(len(sampler)):
            _, sigma = sampler.alpha_sigma(i)
            x_t = path.network_input()

            def velocity(tile: LatentTile, x_t: Tensor = x_t, sigma: Tensor = sigma) -> Tensor:
                return self.guided_velocity(tile.crop(x_t), sigma, condition.at(tile), scale)

            path.step(merge(velocity, tiles, y), lambda: torch.zeros_like(y))
            yield i, path.x_t

    def guided_velocity(
        self, x_t: Tensor, sigma: Tensor, condition: Condition, scale: float
    ) -> Tensor:
        """n − x₀ under classifier-free guidance; `condition` has the empty caption first then."""
        texts = condition.text.split(1)
        if len(texts) == 1:
            return self.velocity(x_t, sigma, condition)
        empty, prompted = (self.velocity(x_t, sigma, replace(condition, text=t)) for t in texts)
        return empty + scale * (prompted - empty)

    def velocity(
        self, x_t: Tensor, sigma: Tensor, condition: Condition, network: nn.Module | None = None
    ) -> Tensor:
        """n − x₀ `[B, c, f, h, w]`, float32, as the network sees it at `sigma`, `[B]` or 0-d.

        Training passes its `network`, which may be wrapped for several devices.
        """
        config: Any = self.transformer.config
        std = self.config["residual_std"]
        guess = None if std is None else LinearGuess(x_t, condition.y, sigma, std)
        inputs = x_t if guess is None else guess.inputs
        dtype = self.transformer.dtype
        options: dict[str, Any] = {}
        if config["in_channels"] > x_t.shape[1]:  # the large model
            known = torch.ones_like(x_t[:, : config["in_channels"] - 2 * x_t.shape[1]])
            inputs = torch.cat([inputs, known, condition.y], dim=1)
        elif config.get("lq_patches"):  # the tiny one
            options["lq"] = condition.y.to(dtype)
        if config.get("anchors", "none") != "none" and condition.frames:
            options["anchors"] = condition.y[:, :, condition.frames].to(dtype)
            options["anchor_frames"] = condition.frames
        t = (1000 * sigma).to(x_t.device, torch.float32).expand(len(x_t))
        (output,) = (network or self.transformer)(
            inputs.to(dtype),
            t,
            condition.text.to(dtype).expand(len(x_t), -1, -1),
            return_dict=False,
            **options,
        )
        return output.float() if guess is None else guess.velocity(output.float())

    def encode_prompt(self, settings: STCDiTSettings) -> Tensor:
        """Text embedding `[1 or 2, 512, d]`, the empty caption first under guidance.

        Without a text encoder one token of zeros stands for it.
        """
        device = self._execution_device
        if self.text_encoder is None:
            return torch.zeros(1, 1, self.transformer.config["text_dim"], device=device)
        scale = settings.guidance_scale
        guided = (self.config["guidance_scale"] if scale is None else scale) != 1
        tokens = self.tokenizer(
            ["", settings.prompt] if guided else [settings.prompt],
            padding="max_length",
            max_length=TEXT_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).to(device)
        found = self.text_encoder(tokens.input_ids, tokens.attention_mask)[0]
        return found * tokens.attention_mask[..., None]  # Wan's text ends in zeros

    def _check(self) -> None:
        if self.transformer is None:
            raise UsageError(
                "This pipeline has no transformer: it is a VAE to train STCDiT from.",
                "Train its stages (framelift train stcdit_…), or use another preset.",
            )


def start_noise(noise: Noise, frame_of: Sequence[int], size: tuple[int, int, int]) -> Tensor:
    """Noise `[1, c, F, h, w]` for latents that begin at these frames."""
    fields = [noise("start", range(frame, frame + 1), size) for frame in frame_of]
    return torch.cat(fields).transpose(0, 1)[None]


def _still(frames: int) -> list[CameraMotion]:
    return [CameraMotion()] * (frames - 1)


def _windows(segments: Sequence[range], most: int, cuts: Sequence[int]) -> list[Window]:
    """Neighbouring segments together, as many as fit."""
    windows: list[Window] = []
    start = 0
    for i, part in enumerate(segments):
        following = segments[i + 1] if i + 1 < len(segments) else None
        if following is None or following.stop - start > most or part.stop in cuts:
            windows.append(Window(start, part.stop))
            start = part.stop
    return windows
