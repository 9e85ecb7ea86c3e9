"""Settings that latent image upscalers share, alone or inside a video method. No torch."""

from dataclasses import dataclass

from framelift.config import check_finite
from framelift.errors import UsageError


@dataclass(frozen=True)
class LatentUpscalerSettings:
    """How one frame is sampled."""

    steps: int | None = None
    """Sampling steps per frame (default: what the preset was tuned for)."""
    noise_level: int | None = None
    """Noise added to the LR frame, as a timestep of the low-resolution scheduler, for presets whose
    UNet takes the level as a label; higher invents more (default: the preset's)."""
    detail: float | None = None
    """Factor on the luma that sampling adds to the bicubic enlargement: 0 is bicubic's luma, above
    1 trades fidelity for sharpness (default: the preset's)."""
    eta: float | None = None
    """Stochasticity of DDIM steps: 0 deterministic, 1 as DDPM (default: the preset's)."""
    prompt: str = ""
    """Text for presets with a text encoder; the papers leave it empty."""
    guidance_scale: float = 1.0
    """Classifier-free guidance on the prompt; 1 switches it off."""

    def __post_init__(self) -> None:
        check_finite(self)
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps is {self.steps}.", "Use at least one step.")
        if self.noise_level is not None and self.noise_level < 0:
            raise UsageError(f"noise_level is {self.noise_level}.", "It must be zero or more.")
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise UsageError(f"eta is {self.eta}.", "It lies between 0 (DDIM) and 1 (DDPM).")
