"""Freed memory is kept: a block that is allocated again has its pages already."""

import ctypes
import mmap
import subprocess
import sys

import pytest

ALLOCATE_AGAIN = """
import resource
import torch
from hpo.training.allocator import keep_freed_memory

keep_freed_memory()
for number in range(12):
    if number == 4:  # the allocator is in its steady state
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.zeros(2**22).add_(1) for _ in range(4)]  # of 16 MiB
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = (12 - 4) * 4 * 2**24 // mmap.PAGESIZE


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    faults = int(subprocess.check_output([sys.executable, "-c", ALLOCATE_AGAIN]))
    assert faults < PAGES / 10  # without it, nearly all pages fault again
