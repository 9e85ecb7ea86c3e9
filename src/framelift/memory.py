"""How much main memory is free, and the refusal of pictures that would not fit. No torch."""

from pathlib import Path

import psutil

from framelift.errors import NoRoomError

BYTES_PER_PIXEL = 40
"""What a picture takes while it is read: decoded, as RGB, as float32 and while one becomes the
other."""
BYTES_PER_OUTPUT_PIXEL = 30
"""What an enlarged picture takes at the least: float32, once more while it is resized or blended,
and its 8 or 16 bits."""


def free_memory() -> int:
    """Bytes that may be allocated now: the machine's, or what a container or `ulimit -v` leaves."""
    return min(psutil.virtual_memory().available, _container_limit(), _address_space())


def check_memory(what: object, width: int, height: int, scale: float = 0) -> None:
    """Raise NoRoomError unless a picture of this size, and it enlarged by `scale`, fit in memory.

    The bound is a low one, so that nothing that would work is refused. Tiles do not help: a frame
    and its enlargement are held whole.
    """
    enlarged = width * height * scale**2
    need = width * height * BYTES_PER_PIXEL + enlarged * BYTES_PER_OUTPUT_PIXEL
    free = free_memory()
    if need > free:
        made = f", enlarged {enlarged / 1e6:,.0f}," if scale else ""
        raise NoRoomError(
            f"{what} is {width}x{height}: pictures of {width * height / 1e6:,.0f} million pixels"
            f"{made} need about {need / 2**30:.1f} GiB of memory; {free / 2**30:.1f} GiB is free.",
            "Close other programs, scale it down or cut it into parts first, or choose a smaller "
            "--scale.",
        )


def most_pixels() -> int:
    """The largest picture that can be decoded with the memory that is free."""
    return min(free_memory() // BYTES_PER_PIXEL, 2**31 - 1)


def _container_limit() -> int:
    """What a cgroup leaves to this process (a container sees the whole machine's memory)."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        return max(0, int(limit) - used) if limit != "max" else 2**62
    except (OSError, ValueError):
        return 2**62


def _address_space() -> int:
    """What `ulimit -v` leaves to this process."""
    try:
        import resource
    except ImportError:  # Windows
        return 2**62
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return 2**62
    return max(0, limit - psutil.Process().memory_info().vms)
