"""Loading pipelines: folders in hub format, and presets."""

from pathlib import Path
from typing import Any


def load_pipeline(source: str) -> Any:
    """Load a pipeline from a folder in hub format."""
    from framelift.methods.image_ldm.pipeline import ImageLDMPipeline

    return ImageLDMPipeline.from_pretrained(str(Path(source)))
