"""Settings of STCDiT; the paper's ablations that need no training are among them."""

from dataclasses import dataclass
from typing import Literal

from framelift.config import check_finite
from framelift.errors import UsageError

Reconstruction = Literal["motion-aware", "uniform", "whole"]


@dataclass(frozen=True)
class STCDiTSettings:
    """How a clip is cut into segments, and how its latents are sampled."""

    enlarge: int = 4
    """How much larger the result is: 1 to 4. At 1 a video is restored at its own size."""
    steps: int | None = None
    """Euler steps from noise to the result (default: the preset's; the paper: 10)."""
    guidance_scale: float | None = None
    """Classifier-free guidance on the prompt; 1 switches it off (default: the preset's; the paper:
    4 for its large model, 1 for its tiny one)."""
    prompt: str = ""
    """What the video shows, for presets with a text encoder; the paper lets a captioner say it."""
    reconstruction: Reconstruction = "motion-aware"
    """What the VAE codes at once (Table 2): segments of even camera motion, chunks of
    `segment_frames`, or all frames of a window."""
    segment_frames: int = 9
    """Frames of a segment at most (supplement, Table 6: 5, 9, 17, 33)."""
    max_shift: float = 5.0
    """A new segment begins where the picture's middle moves further than this between two frames,
    along either axis, in pixels of the input."""
    max_rotation: float = 0.5
    """… or turns by more degrees than this."""
    max_zoom: float = 0.01
    """… or grows or shrinks by more than this share."""
    anchors: Literal["segments", "uniform", "none"] = "segments"
    """Which latents guide (Table 3): the first of each segment, as many evenly apart, or none."""
    anchor_interval: int = 4
    """Take every n-th anchor and always the last (supplement, Table 5: 1, 4, 8, 16)."""

    def __post_init__(self) -> None:
        check_finite(self)
        if self.enlarge not in (1, 2, 3, 4):
            raise UsageError(f"enlarge is {self.enlarge}.", "Choose 1, 2, 3 or 4.")
        for name in ("steps", "segment_frames", "anchor_interval"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}.", "Choose 1 or more.")
        for name in ("max_shift", "max_rotation", "max_zoom"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}.", "It must be zero or more.")

    @property
    def enlargement(self) -> int:
        """What the engine plans the output's size by."""
        return self.enlarge
