"""The ensemble of the seeds: exported as `[export]` says, and opened in a fresh process."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from support.refusals import assert_one_line
from support.shell import ROOT, SMALL_STUDY, Shell

STUDY = SMALL_STUDY.replace("trials = 12", "trials = 2").replace("epochs = 3", "epochs = 1") + (
    '[export]\nmodel = "ensemble"\nshifts = 1\n'
)

MEASURE = """
import json
import sys
from pathlib import Path

from hpo.data import open_dataset

test = open_dataset("digits", Path("nowhere")).load_test()
images = test.images
DOCUMENTED
accuracy = float((probabilities.argmax(1) == test.labels).mean())
print(json.dumps({"accuracy": accuracy, "claimed": bundle.metrics.accuracy, "members": bundle.spec.members}))
"""


def documented(folder: str) -> str:
    """Return the three lines of the README that open a bundle."""
    (lines,) = re.findall(
        r"^from hpo import load_bundle\n\n(?:.+\n){2}", (ROOT / "README.md").read_text(), re.M
    )
    return str(lines).replace("best-lenet", folder)


def measure(shell: Shell, folder: str) -> dict[str, float]:
    """Return the accuracy that a fresh process gets from a bundle, and the one that the bundle claims."""
    script = MEASURE.replace("DOCUMENTED", documented(folder))
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=shell.folder,
        env=shell.environment,
        text=True,
        capture_output=True,
        timeout=120,
        check=True,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


@pytest.mark.slow
def test_ensemble_gets_the_accuracy_that_it_claims(shell: Shell) -> None:
    shell.write("small.toml", STUDY)
    first = shell.hpo("run", "small.toml", "--bundle", "best", "--gpus", "cpu", "--per-device", "1")
    ensemble = measure(shell, "best")
    assert ensemble["members"] == 2
    assert ensemble["accuracy"] == ensemble["claimed"]
    assert "Seeds: 2 seeds (trials 0, 1, mean ± standard deviation): loss" in first.stdout
    assert "Validation of ensemble of trials 0, 1 with shifts of 1 pixel: loss" in first.stdout
    assert "Without shifts: loss" in first.stdout
    read = "est part read for 1 model: ensemble of trials 0, 1 with shifts of 1 pixel"
    assert f"T{read}" in first.stdout

    again = shell.hpo("export", "small", "--bundle", "again")
    assert again.stderr.splitlines()[-1] == f"t{read}"
    single = shell.hpo("export", "small", "--bundle", "single", "--trial", "1", "--shifts", "0")
    assert single.stderr.splitlines()[-1].endswith("with shifts of 1 pixel; trial 1")
    assert measure(shell, "single")["claimed"] == measure(shell, "single")["accuracy"]
    assert "Test part read for 2 models: " in shell.hpo("status", "small").stdout
    reads = json.loads(shell.hpo("status", "small", "--json").stdout)["test_reads"]
    assert [(read["trials"], read["shifts"], read["n"]) for read in reads] == [
        ([0, 1], 1, 360),
        ([1], 0, 360),
    ]

    def refuse(message: str, *options: str) -> None:
        assert_one_line(shell.hpo("export", "small", *options, expect=2).stderr, message)

    refuse("full training 7 has not completed; completed: 0, 1", "--trial", "7", "--bundle", "seven")
    refuse("--trial and --ensemble: give one of the two", "--trial", "0", "--ensemble", "--bundle", "both")
    refuse("--ensemble: is of a model; add --bundle DIR", "--ensemble")
    refuse("shifts 99: must be from 0 to 27 pixels", "--shifts", "99", "--bundle", "far")
    assert not {"seven", "both", "far"} & {path.name for path in shell.folder.iterdir()}
