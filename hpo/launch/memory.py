"""The memory that this process may use: that of the machine and the limit of its control group."""

import os
from contextlib import suppress
from pathlib import Path

from hpo.launch.control_groups import control_groups

LIMITS = ("memory.max", "memory.limit_in_bytes")
"""The files with a group's limit in bytes, in versions 2 and 1 of control groups."""


def usable_memory(root: Path = Path("/")) -> int:
    """Return the memory in bytes. `root`: the folder that holds `proc` and `sys`."""
    limits = []
    for folder in control_groups(root, "memory", ["memory"]):
        for name in LIMITS:
            with suppress(OSError, ValueError):  # the limit "max" is no number
                limits.append(int((folder / name).read_text()))
    return min([physical_memory(), *limits])


def physical_memory() -> int:
    """Return the memory of the machine in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
