"""Temporal Texture Guidance (Section 4.2): what a frame is shown of its neighbour."""

from dataclasses import dataclass

from diffusers import AutoencoderTiny
from torch import Tensor

from framelift.diffusion.codecs import UpscalerCodec
from framelift.diffusion.samplers import Trajectory
from framelift.errors import UsageError
from framelift.methods.stablevsr.guidance_decoder import decode_small
from framelift.methods.stablevsr.motion import Motion, fit_flow
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.ops.warp import warp


@dataclass(kw_only=True)
class FrameState:
    """What is known of a frame that may guide: x_t and x̃₀ of its latest evaluation.

    Training samples the frames of several clips together: every tensor may hold B of them.
    """

    codec: UpscalerCodec
    noisy: Tensor | None = None
    estimate: Tensor | None = None
    picture: Tensor | None = None
    """D(x̃₀), once it was needed."""

    @property
    def lr(self) -> Tensor:
        return self.codec.lr


@dataclass(kw_only=True)
class SampledFrame(FrameState):
    """A frame on its way from noise: what the UNet sees beside x_t, and x_t itself."""

    condition: Tensor
    trajectory: Trajectory


@dataclass(frozen=True)
class TextureGuidance:
    """H̃R^{i-1→i} = MC(ME(LR^{i-1}, LR^i), D(x̃₀^{i-1})) (eq. 7 and 8) on one clip.

    `half_pixel` warps as the released code does. A module `of_latents` was built for MC of x̃₀
    instead of pictures. `small_decoder` is the preset's, if it has one.
    """

    motion: Motion
    settings: StableVSRSettings
    half_pixel: bool = False
    of_latents: bool = False
    small_decoder: AutoencoderTiny | None = None

    def between(self, frame: int, current: FrameState, neighbour: int, other: FrameState) -> Tensor:
        """The guidance as TCM sees it beside `current`, frame number `frame`, made from `other`."""
        made = self(current, other, self.motion.flow(frame, neighbour))
        return made if self.of_latents else current.codec.guidance(made)

    def __call__(self, current: FrameState, neighbour: FrameState, flow: Tensor) -> Tensor:
        """H̃R `[B, 3, H, W]` in [-1, 1], or the warped latents."""
        latents = neighbour.noisy if self.settings.guidance == "xt" else neighbour.estimate
        assert latents is not None
        if self.settings.warp_space == "latent" or self.of_latents:
            moved = self.compensate(latents, flow)
            return moved if self.of_latents else self.decode(moved, current)
        if neighbour.picture is None:
            neighbour.picture = self.decode(latents, neighbour)
        return self.compensate(neighbour.picture, flow)

    def compensate(self, x: Tensor, flow: Tensor) -> Tensor:
        """MC, at the size of `x`."""
        if not self.settings.motion_compensation:
            return x
        return warp(x, fit_flow(flow, x), half_pixel=self.half_pixel)

    def decode(self, latents: Tensor, frame: FrameState) -> Tensor:
        """D(x̃₀) beside the LR frames of `frame`, in [-1, 1] but not clamped."""
        if self.settings.guidance_decoder == "full":
            return frame.codec.decode(latents)
        if self.small_decoder is None:
            raise UsageError(
                "This preset has no small guidance decoder.", "Use guidance_decoder=full."
            )
        return decode_small(self.small_decoder, latents, frame.codec)
