"""Freed memory stays with the process."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from framelift.heap import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(6_000_000).add(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults()
assert faults() < 200, faults()
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc",
    reason="runs where the C library is glibc: other heaps cannot be told to keep memory",
)
def test_freed_memory_is_used_again_without_page_faults():
    """20 times two blocks of 24 MB are 240,000 pages."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC", "GLIBC"))}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120, env=environment)
