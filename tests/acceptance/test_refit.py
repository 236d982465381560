"""A study whose best full training is repeated on all training images, with a worker killed meanwhile."""

import csv
import json
import os
import re
import signal

import pytest
from support.processes import children, wait_for_line
from support.shell import SMALL_STUDY, Shell

import hpo

STUDY = (
    SMALL_STUDY.replace("trials = 12", "trials = 2")
    .replace("epochs = 3", "epochs = 1")
    .replace("pretrain = { epochs = 2 }", "pretrain = { epochs = 4, patience = 2 }")
)
REFIT = STUDY.replace("[promotion]", "refit = true\n[promotion]")


def full_trainings(shell: Shell) -> list[dict[str, str]]:
    """Return the full trainings of the study `refit`, as columns of text."""
    rows = csv.DictReader(shell.hpo("study", "show", "refit", "--csv").stdout.splitlines())
    return [row for row in rows if row["stage"] == "full"]


@pytest.mark.slow
def test_refit_is_trained_by_any_worker_and_exported(shell: Shell) -> None:
    shell.write("refit.toml", STUDY)
    first = shell.hpo("run", "refit.toml", "--gpus", "cpu", "--per-device", "2", "--width", "1")
    assert "the refit of" not in first.stdout
    before = full_trainings(shell)
    assert len(before) == 2
    shell.write("refit.toml", REFIT)
    run = shell.start("run", "refit.toml", "--gpus", "cpu", "--per-device", "2", "--width", "1")
    wait_for_line(run, "images all")
    os.kill(next(iter(children(run.pid))), signal.SIGKILL)
    output = run.communicate(timeout=200)[0]
    assert run.returncode == 0, output
    *trainings, third, fourth = full_trainings(shell)
    assert trainings == before
    assert {third["refit_of"], fourth["refit_of"]} == {"0", "1"}
    best = min(trainings, key=lambda row: float(row["value"]))
    (refit,) = (row for row in (third, fourth) if row["refit_of"] == best["number"])
    assert (refit["state"], refit["value"]) == ("COMPLETE", "")
    assert refit["epochs"] == refit["kept_epoch"]
    assert int(refit["epochs"]) <= int(best["kept_epoch"])
    words = f"Exported: trial {refit['number']}, the refit of trial {best['number']} on all training images"
    assert words in " ".join(output.split())
    assert "(2 complete, 2 refits)" in " ".join(output.split())
    folder = re.search(r"^Bundle: (.+)$", output, re.MULTILINE)
    assert folder is not None, output
    bundle = hpo.load_bundle(folder[1])
    assert bundle.provenance["trials"] == [int(refit["number"])]
    assert bundle.provenance["validation_loss"] == float(best["value"])
    figures = json.loads(shell.hpo("status", "refit", "--json").stdout)["full"]
    assert (figures["budget"], figures["refits"], figures["due"]) == (4, 2, 0)
    assert figures["best"]["trial"] == int(best["number"])
    again = shell.hpo("run", "refit.toml", "--gpus", "cpu", "--per-device", "1")
    assert "nothing to do" in again.stderr
