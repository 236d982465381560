"""Files of control groups."""

from collections.abc import Mapping
from pathlib import Path


def write_control_groups(root: Path, cgroup: str, files: Mapping[str, str]) -> Path:
    """Write `proc/self/cgroup` and files below `sys/fs/cgroup`, and return `root`."""
    groups = {f"sys/fs/cgroup/{name}": content for name, content in files.items()}
    for name, content in {"proc/self/cgroup": cgroup, **groups}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root
