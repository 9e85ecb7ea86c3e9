"""Settings of the pseudo-text adapter. Imports no torch."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from framelift.config import check_finite
from framelift.errors import UsageError

PostStep = Literal[
    "wavelet", "adain", "nlm", "histogram", "color-transfer", "bilateral", "gaussian"
]
"""What is done to the decoded frames, in the thesis' words (Figure 4.3). wavelet: own high, the
input's low frequencies. adain: mean and deviation of the input. nlm: non-local means. histogram:
equalise the luma's histogram in tiles (CLAHE). color-transfer: mean and deviation of the input in
CIELAB. bilateral, gaussian: blurs that keep edges, or do not."""


@dataclass(frozen=True)
class PseudoTextSettings:
    """How a clip is sampled. Every ablation of the thesis is a setting."""

    steps: int | None = None
    """Sampling steps; the thesis compares 10, 30, 100 and 200 (default: the preset's)."""
    condition: bool = True
    """Give the UNet the pseudo-text; off, the empty prompt (Table 4.3)."""
    init: Literal["gaussian", "encoder", "encoder-raw"] | None = None
    """What sampling starts from (Figure 4.4): noise in latents, or noise in pixels through the VAE
    encoder, brought to unit variance or as it comes (default: the preset's)."""
    vae: Literal["sft", "3d"] = "sft"
    """Decoder: the one guided by the LR frames, or the plain one (Figure 4.6)."""
    sft_weight: float = 1.0
    """w of f + w·(scale·f + shift) in the guided decoder: 0 ignores the LR frames there."""
    diffusion: bool = True
    """Off, the control: latents are those of the enlarged input, and only the decoder and the
    post-processing work."""
    postprocess: str | None = None
    """What is done to the decoded frames, steps in order joined by "+"; off: nothing (default: the
    preset's; the thesis' best is wavelet+nlm)."""
    noise_level: int | None = None
    """Noise added to the LR frames beside the latents, as a timestep of the low-resolution
    scheduler, for UNets that are told the level (default: the preset's)."""
    unet_window: int | None = None
    """Frames that the UNet sees at once; longer clips are sampled in windows that overlap, blended
    inside every step (default: the preset's, 8)."""
    vit_input: Literal["resize", "interpolate"] | None = None
    """How LR frames become what the ViT takes: enlarged or shrunk to its size, or its position
    embeddings interpolated to theirs (default: the preset's)."""
    eta: float | None = None
    """Stochasticity of DDIM steps: 0 deterministic, 1 as DDPM (default: the preset's)."""

    def __post_init__(self) -> None:
        check_finite(self)
        for name, least in (("steps", 1), ("noise_level", 0), ("unet_window", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}.", f"It must be at least {least}.")
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise UsageError(f"eta is {self.eta}.", "It lies between 0 (DDIM) and 1 (DDPM).")
        if self.postprocess is not None:
            post_steps(self.postprocess)


def post_steps(joined: str) -> tuple[PostStep, ...]:
    """The steps of "wavelet+nlm"; none of "off" or an empty word. Unknown ones raise UsageError."""
    names = [] if joined == "off" else [name for name in joined.split("+") if name]
    for name in names:
        if name not in get_args(PostStep):
            known = ", ".join(get_args(PostStep))
            raise UsageError(
                f"postprocess names {name!r}.", f"Known are {known}, joined by +, and off."
            )
    return cast(tuple[PostStep, ...], tuple(names))
