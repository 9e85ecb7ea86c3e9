"""Settings of SATeCo."""

from dataclasses import dataclass
from typing import Literal

from framelift.errors import UsageError


@dataclass(frozen=True)
class SATeCoSettings:
    """How a clip is sampled. The defaults are the paper's; its ablations are trained presets."""

    steps: int | None = None
    """Sampling steps (default: what the preset was tuned for)."""
    eta: float | None = None
    """Stochasticity of DDIM steps: 0 deterministic, 1 as DDPM (default: the preset's)."""
    start: Literal["noised", "noise"] = "noised"
    """What sampling begins with: the latent code Z of the enlarged input, noised to the first
    timestep, as in the paper, or noise alone."""
    prompt: str = ""
    """Text for presets with a text encoder; the paper leaves it empty."""
    refine: bool = True
    """Tie the decoded video to the enlarged input (section 3.4); off shows X_d itself."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps is {self.steps}.", "Use at least one step.")
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise UsageError(f"eta is {self.eta}.", "It must lie in 0 to 1.")
