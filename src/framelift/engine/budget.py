"""What fits: memory for tiles and windows, disk for the output, precision and threads."""

import os
from pathlib import Path

import psutil
import torch

from framelift.errors import NoRoomError, UsageError
from framelift.files import free_bytes
from framelift.types import EncodeSettings

SHARE = 0.5  # of free memory that a tile's activations may take
WINDOW_SHARE = 0.2  # of free memory that a window's frames may take
LOSSY_BYTES_PER_PIXEL, LOSSLESS_BYTES_PER_PIXEL = 0.05, 1.5


def choose_device(name: str) -> torch.device:
    """The device to use; raises UsageError if it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"The device {name!r} cannot be used: {str(error).splitlines()[0]}.",
            "Use --device cpu, or see `framelift doctor`.",
        ) from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The networks' precision; auto is bfloat16 where it is fast."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32


def free_memory(device: torch.device) -> int:
    """Bytes that may be allocated on the device now, container limits included."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(psutil.virtual_memory().available, _container_limit())


def _container_limit() -> int:
    """What a cgroup leaves to this process (a container sees the whole machine's memory)."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        return max(0, int(limit) - used) if limit != "max" else 2**62
    except (OSError, ValueError):
        return 2**62


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


def choose_threads(wanted: int | None) -> int:
    """CPU threads: as many as this process may use."""
    if wanted:
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the CPU or an accelerator."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        "allocate memory" in str(error) or "out of memory" in str(error)
    )
