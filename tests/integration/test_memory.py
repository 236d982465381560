"""Processes that train on the same images hold one copy of them together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import wait_for_line
from support.shell import SMALL_STUDY

from benchmarks.memory import MEGABYTE, images_and_rest

COUNT, SIDE = 10_000, 28
PROCESSES = 3

OWN = f"""
import numpy as np

def load():
    images = np.random.default_rng(0).integers(0, 256, ({COUNT}, {SIDE}, {SIDE}), dtype=np.uint8)
    return images, np.arange({COUNT}) % 2, images[:9], np.arange(9) % 2, ["a", "b"]
"""

READ_ALL = """
import sys, torch
from pathlib import Path
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.training.workload import Workload
workload = Workload.open(StudySpec.load(Path("own.toml")), Settings(home=Path("home")))
for stage in ("search", "full"):
    for images in workload.images(stage, "cpu"):
        for index in torch.arange(len(images)).split(1000):
            images.batch(index)
print("all images were read", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="only Linux tells the shares of a mapping")
def test_processes_share_the_images_they_read(tmp_path: Path) -> None:
    (tmp_path / "own_memory.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(SMALL_STUDY.replace('"digits"', '"own_memory:load"'))
    command = [sys.executable, "-c", READ_ALL]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            wait_for_line(process, "all images were read")
        shares = [images_and_rest(process.pid)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    megabytes = COUNT * SIDE**2 / MEGABYTE
    assert sum(shares) == pytest.approx(megabytes, rel=0.1)
    assert all(share < megabytes / 2 for share in shares)
