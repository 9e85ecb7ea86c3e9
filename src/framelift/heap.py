"""Freed memory that the process keeps, instead of giving it back to the system at once.

One layer's output for a 720p frame takes tens of megabytes. glibc hands such blocks back to the
kernel as soon as they are free, and gets them again page by page, zeroed: more than 100,000 page
faults a frame, 18 % of the time (docs/methods/stablevsr.md).
"""

import ctypes
import os
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LIMIT = 2**30  # bytes


@cache
def keep_freed_memory() -> None:
    """Serve blocks up to `LIMIT` from the heap, and shrink it only by more than that; once.

    Does nothing where there is no glibc, or where the user has set these thresholds.
    """
    if os.environ.keys() & {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}:
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_TRIM_THRESHOLD, LIMIT)
    mallopt(M_MMAP_THRESHOLD, LIMIT)
