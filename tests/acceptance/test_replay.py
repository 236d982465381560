"""A study file becomes a table of curves, on which the study's search is replayed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.shell import ROOT, SMALL_STUDY, Shell

from hpo.simulate.curve_table import read

TABLE = "small.csv.gz"


@pytest.mark.slow
def test_table_is_trained_and_replayed(shell: Shell) -> None:
    study = SMALL_STUDY.replace("[1e-3, 1e-2, 1e-1]", "[1e-3, 1e-1]").replace("[16, 32, 64]", "[32, 64]")
    shell.write("small.toml", study)
    words = [str(shell.folder / "small.toml"), str(shell.folder / TABLE), "--epochs", "3", "--seeds", "2"]
    environment = {**os.environ, **shell.environment}
    subprocess.run([sys.executable, "-m", "benchmarks.table", *words], cwd=ROOT, env=environment, check=True)
    assert {path.name for path in shell.folder.iterdir()} == {"small.toml", TABLE, "home"}
    table = read(shell.folder / TABLE)
    assert len(table.runs) == 16
    assert {len(run) for runs in table.runs.values() for run in runs} == {3}
    assert table.best(3) < table.best(1)

    # A search of all cells finds the best one among the seeds that its trials got.
    shell.write("small.toml", study.replace("trials = 12", "trials = 16"))
    results = json.loads(shell.hpo("replay", TABLE, "small.toml", "--seeds", "3", "--json").stdout)
    assert list(results) == [f"{share}% of 48 epochs" for share in (25, 50, 75, 100)]
    assert results["100% of 48 epochs"]["trials"] == {"mean": 16.0, "error": 0.0}
    assert results["100% of 48 epochs"]["regret"]["mean"] < 0.5
    shown = shell.hpo("replay", TABLE, "small.toml", "--seeds", "2", "--workers", "4").stdout
    assert "2 replays, 4 workers" in shown
    assert "100% of 48 epochs" in shown
    shell.write("small.toml", study + "\n[stop]\nepochs = 20\n")
    assert "100% of 20 epochs" in shell.hpo("replay", TABLE, "small.toml", "--seeds", "1").stdout


def test_missing_table_is_reported_in_one_line(shell: Shell) -> None:
    done = shell.hpo("replay", TABLE, "small.toml", expect=2)
    assert done.stderr == f"hpo: {TABLE}: cannot read the table: No such file or directory\n"
    assert done.stdout == ""
