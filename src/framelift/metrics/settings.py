"""How metrics are computed. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from framelift.errors import UsageError
from framelift.types import FlowName


@dataclass(frozen=True)
class MetricSettings:
    """What papers differ in. Every number carries those of these that decide it."""

    color: Literal["rgb", "y"] = "rgb"
    """PSNR and SSIM on RGB, or on MATLAB's luma (BT.601, 16 to 235)."""
    border: int = 0
    """Pixels cut from each side for PSNR, SSIM and NIQE."""
    bits8: bool = True
    """Round frames to 8 bits before anything is measured; they are clamped to [0, 1] anyway."""
    ssim_border: Literal["valid", "reflect"] = "valid"
    """SSIM where the window fits (MATLAB, BasicSR), or everywhere on mirrored borders
    (torchmetrics)."""
    lpips: Literal["alex", "vgg"] = "alex"
    """Network of LPIPS and tLPIPS."""
    niqe_luma: Literal["ycbcr", "yiq"] = "ycbcr"
    """Luma of NIQE: MATLAB's of 16 to 235 (BasicSR), or of 0 to 255 (pyiqa)."""
    flow: FlowName = "dis"
    """Optical flow of tOF and of the warping error."""
    flow_iterations: int = 12
    """Updates of RAFT."""
    we_flow: Literal["gt", "lr", "output"] = "gt"
    """Frames whose flow warps in the warping error: ground truth, low-resolution input (its flow
    is enlarged), or the result itself."""
    we_mask: bool = True
    """Leave occluded pixels and motion borders out of the warping error."""
    we_warps: Literal["next", "previous"] = "next"
    """Neighbour that is warped onto a frame: the next (Lai et al.), or the previous (StableVSR)."""
    we_divisor: Literal["values", "pixels"] = "values"
    """Divide by the visible values, 3 a pixel (Lai et al., StableVSR), or by the visible pixels,
    which gives 3 times as much (EvalCrafter)."""
    we_half_pixel: bool = False
    """Warp as StableVSR's released code does, off by up to half a pixel, zero beyond borders."""
    device: str = "cpu"
    """Where networks run: cpu, cuda, cuda:1."""

    def __post_init__(self) -> None:
        if self.border < 0:
            raise UsageError(f"The border is {self.border}.", "It must not be negative.")
        if self.flow_iterations < 1:
            raise UsageError(
                f"The number of flow iterations is {self.flow_iterations}.", "Use at least 1."
            )
