"""The degradations that recipes are made of: a file each, with fields, draw and application.

Importing them loads no torch. A new one is a file and a name in `STAGES`.
"""

from framelift.degrade.stages.base import Drawn, Frames, Sizes, Stage, draw_all
from framelift.degrade.stages.blur import Blur
from framelift.degrade.stages.codec import Codec
from framelift.degrade.stages.jpeg import Jpeg
from framelift.degrade.stages.motion import Motion
from framelift.degrade.stages.noise import Noise
from framelift.degrade.stages.observe import Observe
from framelift.degrade.stages.resize import Resize
from framelift.degrade.stages.shuffle import Shuffle
from framelift.degrade.stages.stride import Stride
from framelift.degrade.stages.unsharp import Unsharp

STAGES: dict[str, type[Stage]] = {
    kind.__name__.lower(): kind
    for kind in (Blur, Resize, Stride, Noise, Jpeg, Codec, Unsharp, Observe, Motion, Shuffle)
}

__all__ = [
    "STAGES",
    "Blur",
    "Codec",
    "Drawn",
    "Frames",
    "Jpeg",
    "Motion",
    "Noise",
    "Observe",
    "Resize",
    "Shuffle",
    "Sizes",
    "Stage",
    "Stride",
    "Unsharp",
    "draw_all",
]
