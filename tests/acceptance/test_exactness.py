"""The outcome of a random search does not depend on who carries it out."""

import pytest
from pydantic import SecretStr
from shell import SMALL_STUDY, Shell

from hpo.settings import Settings
from hpo.storage import open_storage

pytestmark = pytest.mark.slow


def curves(shell: Shell, name: str, workers: int, width: int) -> dict[str, dict[int, float]]:
    """The curve of each cell, by its parameters, after a search of so many workers."""
    shell.write(f"{name}.toml", SMALL_STUDY)
    shell.hpo("study", "create", f"{name}.toml")
    started = [shell.start("worker", name, "--width", str(width)) for _ in range(workers)]
    for worker in started:
        said = worker.communicate(timeout=240)[0]
        assert worker.returncode == 0, said
    storage = open_storage(Settings(storage_url=SecretStr(shell.variables["HPO_STORAGE_URL"])))
    trials = storage.study(name).trials
    storage.engine.dispose()
    return {repr(sorted(trial.params.items())): trial.intermediate_values for trial in trials}


def test_one_worker_and_four_run_the_same_cells_and_the_same_curves(shell: Shell) -> None:
    # Sums are split among threads, and rounded otherwise by more of them.
    shell.variables = {**shell.variables, "OMP_NUM_THREADS": "1"}
    one = curves(shell, "one", workers=1, width=16)
    four = curves(shell, "four", workers=4, width=2)
    assert len(one) == 12
    assert all(len(curve) == 3 for curve in one.values())
    assert four == one
