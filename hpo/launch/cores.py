"""The processor cores that this process may use: its affinity and the CPU quota of its control group."""

import os
from contextlib import suppress
from pathlib import Path

from hpo.launch.control_groups import control_groups

MOUNTS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores, at least 1. A quota of 1.5 cores counts as one.

    `root`: the folder that holds `proc` and `sys`.
    """
    cores, quota = affinity(), cpu_quota(root)
    return cores if quota is None else max(1, min(cores, int(quota)))


def affinity() -> int:
    """Return the number of cores that the scheduler may put this process on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the CPU quota of this process in cores, None without one.

    Reads control groups of both versions. The quota of a group above counts as well, as far as this process
    can see it.
    """
    groups = control_groups(root, "cpu", MOUNTS)
    quotas = [quota for folder in groups if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _quota(folder: Path) -> float | None:
    """Return the quota of one control group in cores, None without one."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        limit, period = (folder / "cpu.max").read_text().split()
        return _share(float(limit), float(period))  # the limit "max" is no number
    with suppress(OSError, ValueError, ZeroDivisionError):
        limit = (folder / "cpu.cfs_quota_us").read_text()
        return _share(float(limit), float((folder / "cpu.cfs_period_us").read_text()))
    return None


def _share(limit: float, period: float) -> float | None:
    return limit / period if limit > 0 else None
