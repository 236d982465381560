"""The cores of a process: affinity and the quotas of control groups of both versions."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.control_groups import write_control_groups

from hpo.launch.cores import cpu_quota, usable_cores

V1 = "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n"
V2 = "0::/user.slice/a.service\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        (V2, {"user.slice/a.service/cpu.max": "250000 100000\n"}, 2.5),
        (V2, {"user.slice/a.service/cpu.max": "max 100000\n", "user.slice/cpu.max": "50000 100000\n"}, 0.5),
        (V2, {"cpu.max": "300000 100000\n"}, 3.0),  # the host's path, seen inside a container
        ("0::/../../b\n", {"cpu.max": "100000 100000\n"}, 1.0),
        ("0::/a:b\n", {"a:b/cpu.max": "100000 100000\n"}, 1.0),
        ("1:name=systemd:/\n0::/a\n", {"unified/a/cpu.max": "100000 100000\n"}, 1.0),
        (
            V1,
            {
                "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "200000\n",
                "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.0),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (V1, {"memory/docker/a/cpu.max": "100000 100000\n"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "0\n"}, None),
        ("", {"cpu.max": "100000 100000\n"}, None),
        ("odd\n", {"cpu.max": "100000 100000\n"}, None),
        ("0::/\n", {"cpu.max": "\n"}, None),
    ],
)
def test_quota(tmp_path: Path, cgroup: str, files: Mapping[str, str], quota: float | None) -> None:
    assert cpu_quota(write_control_groups(tmp_path, cgroup, files)) == quota


def test_no_quota_where_there_are_no_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("cores", "maximum", "usable"),
    [
        (8, "100000 100000", 1),
        (8, "20000 100000", 1),
        (8, "250000 100000", 2),
        (2, "800000 100000", 2),
        (3, "max 100000", 3),
    ],
)
def test_the_smaller_of_affinity_and_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, maximum: str, usable: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)), raising=False)
    assert usable_cores(write_control_groups(tmp_path, "0::/\n", {"cpu.max": maximum})) == usable


def test_cores_are_counted_where_affinity_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cores(tmp_path) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1
