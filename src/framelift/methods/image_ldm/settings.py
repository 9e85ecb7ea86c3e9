"""Settings of the per-frame latent diffusion upscaler."""

from dataclasses import dataclass

from framelift.errors import UsageError
from framelift.methods.settings import LatentUpscalerSettings


@dataclass(frozen=True)
class ImageLDMSettings(LatentUpscalerSettings):
    """How one frame is sampled."""

    batch: int = 1
    """Frames per network call; more is faster on a GPU and takes more memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}.", "Use at least one frame.")
