"""Settings of StableVSR; the paper's ablations are among them."""

from dataclasses import dataclass
from typing import Literal

from framelift.methods.settings import LatentUpscalerSettings
from framelift.types import FlowName


@dataclass(frozen=True)
class StableVSRSettings(LatentUpscalerSettings):
    """How a clip is sampled. The defaults are the paper's proposal."""

    sampling: Literal["single", "autoregressive", "unidirectional", "bidirectional"] = (
        "bidirectional"
    )
    """Order of sampling (Table 2): every frame alone; each frame to its end, guided by the finished
    one before it; all frames a step, forward only; all frames a step, forward and backward in
    turn (Algorithm 1)."""
    guidance: Literal["x0", "xt"] = "x0"
    """What of the neighbour guides: its estimate x̃₀ or its noisy state x_t (Table 4)."""
    motion_compensation: bool = True
    """Warp the guidance onto the current frame (Table 4)."""
    warp_space: Literal["rgb", "latent"] = "rgb"
    """Warp the decoded guidance, or its latents before they are decoded (Table 4, Figure 4)."""
    guidance_decoder: Literal["full", "small"] = "full"
    """Decoder of the guidance: the codec's, or the preset's small distilled one."""
    flow: FlowName | Literal["preset"] = "preset"
    """Optical flow: OpenCV's DIS, or RAFT as in the paper (needs the extra eval)."""
    flow_frames: Literal["preset", "lr", "enlarged"] = "preset"
    """Frames that the flow is computed on: the LR frames, the flow then scaled, or their bicubic
    enlargement as in the released code (16 times the work)."""
    warp: Literal["preset", "exact", "half-pixel"] = "preset"
    """Exact backward warping, or the released code's, off by up to half a pixel."""
    tcm_scale: float = 1.0
    """Factor on what the Temporal Conditioning Module adds to the UNet; 0 switches it off."""
