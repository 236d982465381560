"""A child process ends with the process that started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import until_gone

OWN = """
import os, pathlib, signal

def load():
    try:
        pathlib.Path("started").write_text(str(os.getpid()))
        signal.pause()
    finally:
        pathlib.Path("unwound").touch()
"""

PARENT = """
from pathlib import Path
from hpo.run.child import run_in_child
from hpo.settings import Settings
run_in_child("arrays", Settings(home=Path("home")), name="own_child:load", content=None)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "own_child.py").write_text(OWN)
    os.mkfifo(tmp_path / "started")
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_child_ends_with_its_parent(
    parent: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    child = int((tmp_path / "started").read_text())
    parent.send_signal(number)
    parent.wait(60)
    until_gone([child])
    assert (tmp_path / "unwound").exists()
