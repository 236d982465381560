"""The memory of a process: that of the machine and the limits of control groups of both versions."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from support.control_groups import write_control_groups

from hpo.launch import memory
from hpo.launch.memory import physical_memory, usable_memory


@pytest.mark.parametrize(
    ("cgroup", "files", "usable"),
    [
        ("0::/\n", {"memory.max": "3000\n"}, 3000),
        ("0::/\n", {"memory.max": "max\n"}, 8000),
        ("0::/\n", {"memory.max": "9000\n"}, 8000),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "5000\n"}, 5000),
        ("4:memory:/docker/a\n", {"memory/docker/a/memory.limit_in_bytes": "2000\n"}, 2000),
        ("4:memory:/docker/a\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8000),
        ("4:memory:/docker/a\n", {"cpu/docker/a/memory.limit_in_bytes": "2000\n"}, 8000),
        ("", {}, 8000),
    ],
)
def test_smallest_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, files: Mapping[str, str], usable: int
) -> None:
    monkeypatch.setattr(memory, "physical_memory", lambda: 8000)
    assert usable_memory(write_control_groups(tmp_path, cgroup, files)) == usable


def test_memory_of_this_machine_is_bytes() -> None:
    assert 10**8 < usable_memory() <= physical_memory() < 10**15
