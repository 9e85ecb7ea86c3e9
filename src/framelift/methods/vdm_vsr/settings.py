"""Settings of VDM-VSR; the paper's experiments and the authors' variants are among them."""

import math
from dataclasses import dataclass
from typing import Literal

from framelift.errors import UsageError


@dataclass(frozen=True)
class VDMVSRSettings:
    """The operator that is assumed to have made the input, and how its inverse is sampled."""

    downscale: int = 4
    """Factor s of the decimation L: the input is taken for every s-th pixel of the result."""
    blur_sigma: float = 0.0
    """Deviation σ_h of the Gaussian blur h before the decimation, in pixels of the result; 0 for
    none, as when frames were aliased."""
    decimation: Literal["stride", "bicubic"] = "stride"
    """How L takes its pixels: every s-th one, or antialiased bicubic."""
    steps: int | None = None
    """Sampling steps, respaced over the training's 1000 (default: the preset's; the paper: 1000).
    Each costs a gradient through operator, decoder and denoiser."""
    step_size: float | None = None
    """ζ, the length of the correction at every step (default: the preset's for this factor). It
    depends on how many values are observed and on the number of steps."""
    step_schedule: Literal["constant", "decaying", "rising"] = "constant"
    """η_t over the steps: ζ throughout, ζ√(1-ᾱ_t), or ζ√ᾱ_t."""
    norm: Literal["unsquared", "squared", "frames"] = "unsquared"
    """Whose gradient corrects: ‖Y - Ŷ‖ with a constant ζ, as DPS and the authors' code have it;
    ‖Y - Ŷ‖² as Algorithm 1 prints, with another ζ; or the sum of the frames' norms, which corrects
    a frame alike however many others are observed."""
    psld: float = 0.0
    """γ of PSLD's term, which holds the latents to what the encoder can produce (Rout et al. 2023);
    0 leaves it out, its authors used 0.1."""
    checkpointing: bool = False
    """Recompute activations instead of keeping them: less memory, more time."""

    def __post_init__(self) -> None:
        if self.downscale < 1:
            raise UsageError(f"downscale is {self.downscale}.", "Use a factor of 1 or more.")
        for name in ("blur_sigma", "psld", "step_size"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"{name} is {value}.", "It must be zero or more.")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps is {self.steps}.", "Use at least one step.")

    @property
    def enlargement(self) -> int:
        """The result is as much larger as the operator makes it smaller."""
        return self.downscale
