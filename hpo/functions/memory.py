"""The memory of a training function and of the processes that it has started."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def memory_of(session: int, limit: int, proc: Path = PROC) -> int:
    """Return the bytes that the processes of a session use; 0 where the system does not say.

    Pages that processes share count once if the sum is above `limit`, which takes longer to find out.
    """
    pids = list(_processes(session, proc))
    used = sum(_resident(pid, proc) for pid in pids)
    return used if used <= limit or len(pids) < 2 else sum(_proportional(pid, proc) for pid in pids)


def _processes(session: int, proc: Path) -> Iterator[int]:
    for path in proc.glob("[0-9]*"):
        if _fields(int(path.name), proc)[3:4] == [str(session)]:
            yield int(path.name)


def _fields(pid: int, proc: Path) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, parent, group, session, ..."""
    try:
        return (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # the process has ended
        return []


def _resident(pid: int, proc: Path) -> int:
    fields = _fields(pid, proc)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def _proportional(pid: int, proc: Path) -> int:
    try:
        lines = (proc / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return _resident(pid, proc)
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
