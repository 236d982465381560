"""The benchmarks run, in their short forms. What they find out is nothing to test."""

import json
import os
import subprocess
import sys

import pytest
from support.shell import ROOT, Shell

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "options", "keys"),
    [
        ("search", ("--only", "optuna,hpo"), {"seconds", "losses", "ratios"}),
        ("overhead", (), {"workers"}),
        ("activities", (), {"runs"}),
        ("answers", (), {"runs", "ratios"}),
        ("regret", (), {"tables"}),
        ("throughput", (), {"rates", "peak"}),
    ],
)
def test_a_short_form(name: str, options: tuple[str, ...], keys: set[str], shell: Shell) -> None:
    command = [
        sys.executable,
        "-m",
        f"benchmarks.{name}",
        "--quick",
        "--json",
        str(shell.folder / "found.json"),
    ]
    done = subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env={**os.environ, **shell.environment},
        text=True,
        capture_output=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cores" in done.stdout
    found = json.loads((shell.folder / "found.json").read_text())
    assert found["values"].keys() == keys
    assert found["origin"]["hardware"] in done.stdout
