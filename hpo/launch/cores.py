"""The processor cores that this process may use: its affinity and the CPU quota of its control group."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath


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
    quotas = [quota for folder in _groups(root) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that may limit this process."""
    mounts = root / "sys" / "fs" / "cgroup"
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one tree. In version 1, the folder has the names of its controllers, in any order.
        names = [controllers, "cpu", "cpu,cpuacct", "cpuacct,cpu"] if controllers else [".", "unified"]
        for mount in {mounts / name for name in names}:
            yield mount
            # Inside a container the path may be that of the host, which is not mounted here.
            for part in _ancestry(path):
                yield mount / part


def _ancestry(path: str) -> list[PurePosixPath]:
    """Return a group's path and those above it, without the root; none for a path out of the namespace."""
    relative = PurePosixPath(path.lstrip("/"))
    if ".." in relative.parts:
        return []
    return [relative, *relative.parents][:-1]


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
