"""Small facts that several packages share. Imports nothing but the standard library."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ColorTags:
    """Colour description of a stream, as ISO/IEC 23091-2 code points (2 = unspecified).

    `range` follows FFmpeg: 0 unspecified, 1 limited ("tv"), 2 full ("pc").
    """

    matrix: int = 2
    range: int = 0
    primaries: int = 2
    transfer: int = 2

    @property
    def is_hdr(self) -> bool:
        """Whether the transfer is PQ (SMPTE ST 2084) or HLG (ARIB STD-B67)."""
        return self.transfer in (16, 18)


@dataclass(frozen=True)
class VideoInfo:
    """What probing tells about a video before any of it is processed.

    `width` and `height` are those of the stored pixels, before `rotation` (degrees,
    counter-clockwise, as the display matrix says). `duration` is in seconds, as the container
    claims it, or None; `frames` is an estimate until the video has been surveyed.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    frames: int | None
    duration: float | None
    start_pts: int
    sample_aspect_ratio: Fraction
    rotation: int
    mirrored: bool
    bit_depth: int
    pixel_format: str
    codec: str
    container: str
    color: ColorTags
    interlaced: bool
    alpha: bool
    is_images: bool = False
    audio: tuple[str, ...] = ()
    subtitles: tuple[str, ...] = ()
    attachments: tuple[str, ...] = ()
    chapters: int = 0
    static_hdr: dict[str, str] = field(default_factory=dict)
    side_data: tuple[str, ...] = ()
    """Names of what the first picture carries besides its pixels."""
    dolby_vision: int | None = None
    """Profile of Dolby Vision whose colours no other standard describes."""
    warnings: tuple[str, ...] = ()


Codec = Literal["h264", "hevc", "av1", "ffv1", "prores", "vp9"]


@dataclass(frozen=True)
class EncodeSettings:
    """How the output video is compressed."""

    codec: Codec = "h264"
    """Video codec. ffv1 is always lossless; prores is 10-bit 4:2:2."""
    crf: float | None = None
    """Constant-quality level, lower is better (default: h264 18, hevc 19, av1 24, vp9 24)."""
    speed: str | None = None
    """The encoder's own preset: h264 and hevc "ultrafast" to "veryslow" (default "medium"),
    av1 0 to 13 (default 8)."""
    pixel_format: str | None = None
    """Pixel format, for example yuv420p10le (default: 4:2:0 at the source's bit depth)."""
    lossless: bool = False
    """Compress without loss, in RGB or 4:4:4 where the codec has it."""


@dataclass(frozen=True)
class Progress:
    """One event of a run. `done` and `total` count output frames of the current input."""

    stage: Literal["survey", "upscale", "finish", "note", "warning"]
    done: int = 0
    total: int = 0
    note: str = ""


OnProgress = Callable[[Progress], None]


FlowName = Literal["dis", "dis-fast", "dis-ultrafast", "raft", "raft-things", "raft-small"]
"""Optical flow. dis: OpenCV's DIS, no weights (medium preset; -fast, -ultrafast: those). raft:
torchvision's RAFT-large, weights C_T_SKHT_V2 as StableVSR uses (-things: C_T_V1, trained on
FlyingChairs and FlyingThings3D; -small: RAFT-small)."""

Deinterlace = Literal["no", "bwdif", "ivtc", "keep"]
"""Interlaced video: refuse it (no), interpolate the missing lines (bwdif), put the fields of
telecined film together again at 4/5 of the rate (ivtc), or take its pictures as they are (keep)."""

ColorFix = Literal["none", "wavelet", "adain"]
"""Take the colours of the input: its low frequencies (wavelet), or mean and deviation (adain)."""


@dataclass(frozen=True)
class Limits:
    """What a method needs of whoever feeds it, in LR frames and LR pixels."""

    size_multiple: int = 1
    """Both sides of what it is given are multiples of this."""
    window: int = 8
    """Frames that it sees at once."""
    overlap: int = 0
    """Frames that neighbouring windows share and cross-fade."""
    tiling: Literal["engine", "method"] = "engine"
    """Who cuts frames that are too large for memory: the engine around the method, or the method
    by itself inside a sampling step."""
    tile: int | None = None
    """Side of the tiles that the method asks for; None: as memory allows."""
    tile_overlap: int = 16
    """What neighbouring tiles share."""
    noise_block: int = 64
    """Side of the squares in which noise is drawn (see `PositionNoise`); smaller where a tile has
    few latents."""
    bytes_per_pixel: int = 50_000
    """Memory that a tile takes per LR pixel, from which the tile's size is chosen."""
    color_fix: ColorFix = "none"
    """Colour fix that suits the codec."""

    def __post_init__(self) -> None:
        for name in ("size_multiple", "window", "tile", "noise_block", "bytes_per_pixel"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, but must be 1 or more")
        for name in ("overlap", "tile_overlap"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 0 or more")
