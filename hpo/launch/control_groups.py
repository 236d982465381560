"""The control groups that limit this process, of both versions."""

from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath


def control_groups(root: Path, controller: str, mounts: Collection[str]) -> Iterator[Path]:
    """Yield the folders of the control groups that may limit what `controller` counts, such as `cpu`.

    The groups above count as well, as far as this process can see them. `root`: the folder that holds `proc`
    and `sys`. `mounts`: names of folders where version 1 may mount the controller.
    """
    tree = root / "sys" / "fs" / "cgroup"
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one tree. In version 1, the folder has the names of its controllers, in any order.
        names = [controllers, *mounts] if controllers else [".", "unified"]
        for mount in {tree / name for name in names}:
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
