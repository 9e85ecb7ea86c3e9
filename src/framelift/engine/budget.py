"""What fits: memory for tiles and windows, disk for the output."""

from pathlib import Path

import torch

from framelift.device import free_memory
from framelift.errors import NoRoomError
from framelift.files import free_bytes
from framelift.types import EncodeSettings

SHARE = 0.5  # of free memory that a tile's activations may take
WINDOW_SHARE = 0.2  # of free memory that a window's frames may take
LOSSY_BYTES_PER_PIXEL, LOSSLESS_BYTES_PER_PIXEL = 0.05, 1.5


def choose_tile(
    height: int, width: int, bytes_per_pixel: int, multiple: int, device: torch.device
) -> int:
    """Largest tile side (LR pixels) whose activations fit; the whole frame where it fits."""
    pixels = free_memory(device) * SHARE / bytes_per_pixel
    if height * width <= pixels:
        return max(height, width)
    side = int(pixels**0.5) // multiple * multiple
    if side < 2 * multiple:
        raise NoRoomError(
            "Too little memory is free for even the smallest tile.",
            "Close other programs, or choose a smaller preset.",
        )
    return side


def choose_window(wanted: int, output_pixels: int, device: torch.device) -> int:
    """`wanted` frames, or fewer if their float32 output would take too much memory."""
    frame = output_pixels * 3 * 4 * 3  # the blended frame and two temporaries
    return max(1, min(wanted, int(free_memory(device) * WINDOW_SHARE / frame)))


def check_disk(folder: Path, frames: int, pixels: int, encode: EncodeSettings) -> None:
    """Refuse a run whose output, held twice while it is joined, will not fit on the disk."""
    lossless = encode.lossless or encode.codec in ("ffv1", "prores")
    each = pixels * (LOSSLESS_BYTES_PER_PIXEL if lossless else LOSSY_BYTES_PER_PIXEL)
    need, free = int(2 * frames * each), free_bytes(folder)
    if need > free:
        raise NoRoomError(
            f"The output needs about {need / 1e9:.1f} GB; {folder} has {free / 1e9:.1f} GB free.",
            "Free some space, or write to another disk with --output.",
        )
