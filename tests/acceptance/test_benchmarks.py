"""The quick forms of the benchmarks run. Their figures are not tested."""

import json
import os
import subprocess
import sys

import pytest
from support.shell import ROOT, Shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(960)]


@pytest.mark.parametrize(
    ("name", "options", "keys"),
    [
        ("search", ("--only", "optuna,hpo"), {"seconds", "losses", "ratios"}),
        ("overhead", (), {"workers"}),
        ("activities", (), {"runs"}),
        ("answers", (), {"runs", "ratios"}),
        ("regret", (), {"tables"}),
        ("default_search", ("--objective", "accuracy"), {"budgets", "tables", "summary"}),
        ("memory", (), {"runs"}),
        ("throughput", (), {"rates", "peak"}),
        ("plan", (), {"studies"}),
        ("parameters", (), {"compilation", "seconds", "widths"}),
        ("paper", ("--models", "lenet", "--seeds", "2"), {"networks"}),
        ("ablation", ("--models", "lenet", "--seeds", "1"), {"lenet"}),
    ],
)
def test_quick_form_writes_its_results(
    name: str, options: tuple[str, ...], keys: set[str], shell: Shell
) -> None:
    file = shell.folder / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(file), *options],
        cwd=ROOT,
        env={**os.environ, **shell.environment},
        text=True,
        capture_output=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cores" in done.stdout
    results = json.loads(file.read_text())
    assert results["values"].keys() == keys
    assert results["origin"]["hardware"] in done.stdout
