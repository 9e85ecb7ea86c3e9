"""Settings of an upscaling run: command line, Python API, web form and record in one. No torch."""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from framelift.errors import UsageError
from framelift.types import ColorFix, Deinterlace, EncodeSettings

MOST_THREADS = 1024
SLOWEST, FASTEST = 0.001, 1000.0  # frames a second


@dataclass(frozen=True)
class UpscaleSettings:
    """How a video is upscaled. None and "auto" leave the choice to the preset and the machine."""

    method: str | None = None
    """Method to use, with its default preset (see `framelift presets`)."""
    preset: str | None = None
    """Preset to use: a name, a preset file, or a folder in hub format."""
    weights_dir: Path | None = None
    """Folder with copies of hub repositories (org--name), for machines without a network."""
    scale: float | None = None
    """Enlargement of each side (default 4): the network's own factor, then one resize."""
    height: int | None = None
    """Height of the output as shown, instead of a scale; the width keeps the proportions."""
    frames: str | None = None
    """Only frames A:B, counted from 0, B excluded; either may be left out."""
    start: str | None = None
    """Only from this time on, in seconds or [hh:]mm:ss[.fff]; audio is cut to match."""
    end: str | None = None
    """Only up to this time."""
    seed: int = 0
    """Seed of the noise; the same seed and settings give the same video."""
    tile: int | None = None
    """Side of the tiles in input pixels (default: as large as memory allows)."""
    tile_overlap: int | None = None
    """Overlap of neighbouring tiles in input pixels (default: the method's, mostly 16)."""
    window: int | None = None
    """Frames that the method sees at once."""
    overlap: int | None = None
    """Frames that neighbouring windows share and cross-fade."""
    color_fix: ColorFix | Literal["auto"] = "auto"
    """Take the colours of the input: wavelet (its low frequencies), adain (mean and deviation)."""
    device: str = "auto"
    """Where the networks run: auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the networks; auto is bfloat16 where the hardware has it."""
    threads: int | None = None
    """CPU threads (default: one per core)."""
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    """Compression of the output."""
    deinterlace: Deinterlace = "no"
    """Interlaced input: refuse it (no), interpolate whole frames (bwdif; also the option without a
    value), undo the telecine of 24 frames/s film (ivtc), or take its pictures as whole (keep)."""
    hdr: Literal["refuse", "keep"] = "refuse"
    """HDR input: refuse it, or upscale its PQ or HLG values as they are."""
    rate: float | None = None
    """Frames per second of an image sequence (default 24)."""
    overwrite: bool = False
    """Replace an existing output."""
    restart: bool = False
    """Throw away what an interrupted run with other settings left behind."""
    strict: bool = False
    """Refuse damaged or truncated input instead of repairing what can be repaired."""

    def __post_init__(self) -> None:
        if self.scale is not None and self.height is not None:
            raise UsageError("Both --scale and --height are given.", "Give only one of them.")
        if self.frames and (self.start or self.end):
            raise UsageError("Both --frames and --start/--end are given.", "Give only one of them.")
        positive = ("scale", "height", "tile", "window", "threads", "rate")
        for name in positive:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"--{name} is {value}.", "It must be a number above zero.")
        if self.rate is not None and not SLOWEST <= self.rate <= FASTEST:
            raise UsageError(
                f"--rate is {self.rate:g}.",
                f"Pictures can follow each other at {SLOWEST:g} to {FASTEST:g} a second.",
            )
        if self.threads is not None and self.threads > MOST_THREADS:
            raise UsageError(
                f"--threads is {self.threads}.", f"Use at most {MOST_THREADS}; cores are enough."
            )
        for name in ("overlap", "tile_overlap"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UsageError(
                    f"--{name.replace('_', '-')} is {value}.", "It must not be negative."
                )
        if self.window and self.overlap and self.overlap >= self.window:
            raise UsageError(
                f"--overlap {self.overlap} is not smaller than --window {self.window}.",
                "Windows must share fewer frames than they have.",
            )
        if self.tile and self.tile_overlap is not None and self.tile_overlap >= self.tile:
            raise UsageError(
                f"--tile-overlap {self.tile_overlap} is not smaller than --tile {self.tile}.",
                "Use larger tiles or less overlap.",
            )
        parse_frames(self.frames)
        parse_time(self.start)
        parse_time(self.end)


def parse_frames(text: str | None) -> tuple[int, int | None]:
    """Read "A:B" as (first, stop); stop is None for "to the end"."""
    if not text:
        return 0, None
    parts = text.split(":")
    try:
        if len(parts) != 2:
            raise ValueError
        first, stop = (int(p) if p.strip() else None for p in parts)
    except ValueError:
        raise UsageError(f"--frames {text!r} is not a range.", "Write it as 0:48.") from None
    first = first or 0
    if first < 0 or (stop is not None and stop <= first):
        raise UsageError(f"--frames {text!r} is empty.", "Write the first frame, then a later one.")
    return first, stop


def parse_time(text: str | None) -> Fraction | None:
    """Read seconds or [hh:]mm:ss[.fff] exactly."""
    if text is None:
        return None
    try:
        seconds = Fraction(0)
        for part in text.split(":"):
            value = Fraction(part)
            if value < 0:
                raise ValueError
            seconds = seconds * 60 + value
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"{text!r} is not a time.", "Write seconds or mm:ss from the start, as 12.5 or 1:30."
        ) from None
    return seconds
