"""What is freed is kept: blocks that are asked for again have their pages already."""

import ctypes
import mmap
import subprocess
import sys

import pytest

ASK_AGAIN = """
import resource
import torch
from hpo.training.allocator import keep_freed

keep_freed()
for round in range(12):
    if round == 4:  # by now the blocks have found their places
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.zeros(2**22).add_(1) for _ in range(4)]  # of 16 MiB
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = (12 - 4) * 4 * 2**24 // mmap.PAGESIZE


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    faults = int(subprocess.check_output([sys.executable, "-c", ASK_AGAIN]))
    assert faults < PAGES / 10  # without it, up to all of them
