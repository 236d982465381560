"""The benchmark of full training: after a kill of all processes, the same table comes out."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr
from support.processes import children, until, until_gone
from support.shell import ROOT, Shell

from hpo.errors import NotFoundError
from hpo.settings import Settings
from hpo.store.connection import Storage, open_storage
from hpo.study.history import history
from hpo.study.stored import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# One worker, because two share the trials of a search in another order each time.
OPTIONS = ("--quick", "--models", "lenet", "--until", "validation", "--per-device", "1", "--epochs", "6")

MEASURED = {"seconds", "ended", "weights", "device"}
"""Figures of the course of a run. Another run has others."""


def start(shell: Shell, name: str, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.paper", *OPTIONS, *options]
    return subprocess.Popen(
        [*command, "--json", str(shell.folder / name)],
        cwd=ROOT,
        env={**shell.environment, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def result_of(shell: Shell, name: str) -> dict[str, Any]:
    process = start(shell, name)
    output = process.communicate(timeout=280)[0]
    assert process.returncode == 0, output
    result: dict[str, Any] = json.loads((shell.folder / name).read_text())
    return result


def without_times(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: without_times(value) for key, value in values.items() if key not in MEASURED}
    if isinstance(values, list):
        return [without_times(value) for value in values]
    return values


def accuracies(result: dict[str, Any]) -> list[Any]:
    return [table for table in result["tables"] if "seconds" not in table["title"]]


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    for child in children(pid):
        yield from family(child)


def epochs_of_full_training(storage: Storage) -> int | None:
    """Return the number of epochs of the full trainings that are not finished, None before the first."""
    with suppress(NotFoundError):
        rows = history(storage, load(storage, "quick-lenet"), with_epochs=False).trials
        return (
            sum(row.epochs for row in rows if row.stage == "full" and not row.row.state.is_finished()) or None
        )
    return None


def test_killed_full_training_gives_the_same_table(shell: Shell) -> None:
    calm = result_of(shell, "calm.json")
    shell.hpo("study", "delete", "quick-lenet", "--yes")

    storage = open_storage(Settings(storage_url=SecretStr(shell.variables["HPO_STORAGE_URL"])))
    process = start(shell, "killed.json")
    until("an epoch of full training", lambda: epochs_of_full_training(storage), seconds=240)
    killed = list(family(process.pid))
    for pid in killed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    until_gone(killed)
    assert epochs_of_full_training(storage) is not None  # the kill came in the middle
    storage.engine.dispose()

    again = result_of(shell, "killed.json")
    assert accuracies(again) == accuracies(calm)
    assert accuracies(calm)[0]["rows"]
    assert without_times(again["values"]) == without_times(calm["values"])
