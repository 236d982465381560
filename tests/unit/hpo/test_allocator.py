"""What is freed is kept: blocks that are asked for again have their pages already."""

import ctypes
import subprocess
import sys

import pytest

ASK_AGAIN = """
import resource
import torch
from hpo.allocator import keep_freed

if {keeps}:
    keep_freed()
for round in range(12):
    if round == 4:  # by now the blocks have found their places, as a rule
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.zeros(2**22).add_(1) for _ in range(4)]  # of 16 MiB
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    faults = [
        int(subprocess.check_output([sys.executable, "-c", ASK_AGAIN.format(keeps=keeps)]))
        for keeps in (False, True)
    ]
    assert 4 * faults[1] < faults[0]
