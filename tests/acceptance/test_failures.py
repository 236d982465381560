"""A network of the user's own that raises, and that hangs."""

import json

import pytest
from support.processes import until
from support.shell import SMALL_STUDY, Shell

NETWORK = """
import time
from pathlib import Path

from torch import nn


class Net(nn.Module):
    def __init__(self, classes, in_channels):
        super().__init__()
        self.linear = nn.Linear(28 * 28 * in_channels, classes)

    def forward(self, images):
        trains = self.training and len(images) > 2  # a rehearsal has two images
        if trains and Path("bug").exists():
            raise ValueError("a bug")
        if trains and Path("hang").exists():
            Path("hang").unlink()
            time.sleep(3600)
        return self.linear(images.flatten(1))
"""

STUDY = (
    SMALL_STUDY.replace('"lenet"', '"nets:Net"')
    .replace("[16, 32, 64]", "64")
    .replace("trials = 12\nepochs = 3", "trials = 2\nepochs = 1")
)

LIMITED = f"{STUDY}[limits]\nepoch_minutes = 0.15\n"


@pytest.mark.slow
def test_failed_trials_are_retried_and_a_network_that_hangs_is_ended(shell: Shell) -> None:
    shell.write("nets.py", NETWORK)
    shell.write("own.toml", STUDY)
    shell.hpo("study", "create", "own.toml")
    (shell.folder / "bug").touch()
    alone = ("--gpus", "cpu", "--per-device", "1")
    output = shell.hpo("workers", "own", *alone, expect=None)
    assert "search: each of the 2 trials runs alone next" in output.stderr
    refused = shell.hpo("promote", "own", expect=2).stderr
    assert refused == (
        "hpo: study 'own': none of its 2 search trials completed; 2 trials failed, trial 0 with ValueError: "
        "a bug; once the cause is mended: hpo study retry own\n"
    )
    assert "once the cause is mended: hpo study retry own" in shell.hpo("status", "own").stdout

    (shell.folder / "bug").unlink()
    assert "2 failed trials queued again: 0 as 2, 1 as 3" in shell.hpo("study", "retry", "own").stderr
    assert "no failed trial to queue" in shell.hpo("study", "retry", "own").stderr
    shell.write("own.toml", LIMITED)
    assert "study own: updated" in shell.hpo("study", "create", "own.toml").stderr
    (shell.folder / "hang").touch()
    lines = shell.hpo("workers", "own", *alone).stderr
    for number in (2, 3):
        assert f"trial {number}: no epoch in 0.15 minutes; it runs again, alone" in lines
    figures = json.loads(shell.hpo("status", "own", "--json").stdout)
    states = figures["search"]["states"]
    assert (states["FAIL"], states["COMPLETE"], figures["search"]["retried"]) == (2, 2, 2)


def test_artifacts_are_tested_before_a_study_is_stored(shell: Shell) -> None:
    shell.write("file", "")
    user = Shell(shell.folder, {**shell.variables, "HPO_ARTIFACTS": str(shell.folder / "file" / "below")})
    refused = user.hpo("run", "small.toml", expect=2).stderr
    assert refused.startswith("hpo: HPO_ARTIFACTS = ")
    assert "cannot be written" in refused
    assert refused.count("\n") == 1
    assert "no study is stored" in shell.hpo("study", "list").stderr


def test_workers_with_another_artifact_folder_are_refused(shell: Shell) -> None:
    shell.hpo("study", "create", "small.toml")
    first = Shell(shell.folder, {**shell.variables, "HPO_ARTIFACTS": str(shell.folder / "one")})
    first.start("worker", "small")
    mark = "*/store-id"
    until("the mark", lambda: next((shell.folder / "one").glob(mark), None))
    second = Shell(shell.folder, {**shell.variables, "HPO_ARTIFACTS": str(shell.folder / "two")})
    refused = second.hpo("worker", "small", expect=2).stderr
    first.close()
    assert "is not the folder of the study's other workers" in refused
    assert refused.count("\n") == 1
