"""The examples of docs/python-api.md, as one script of a user."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.shell import ROOT, Shell

from hpo.store.server import stop_server

PAGE = ROOT / "docs" / "python-api.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def user(tmp_path: Path, home: Path) -> Shell:
    return Shell(tmp_path, {"HPO_HOME": str(home)})


def test_examples_run_in_order_as_a_script(user: Shell, home: Path) -> None:
    assert len(blocks()) >= 6
    # No guard for the main module: workers and other children must not import the script.
    user.write("script.py", "\n".join(blocks()))
    try:
        done = subprocess.run(
            [sys.executable, "script.py"],
            cwd=user.folder,
            env=user.environment,
            text=True,
            capture_output=True,
            timeout=280,
            check=False,
        )
    finally:
        stop_server(home / "postgres")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    best, tested, trained, pairs, refusal = done.stdout.splitlines()
    assert best.startswith("{'lr': 0.0")
    assert 0.3 < float(tested) <= 1
    assert 0.3 < float(trained) <= 1
    assert pairs.startswith("[((")
    assert refusal.startswith("study 'by-hand': no search trial is finished yet (0 of 2); ")
