"""The outcome of a random search does not depend on who carries it out."""

import pytest
from pydantic import SecretStr
from support.shell import SMALL_STUDY, Shell

from hpo.settings import Settings
from hpo.store.connection import open_storage

pytestmark = pytest.mark.slow


# A search that has one program, and the compiler to wait for.
COMPILED = SMALL_STUDY.replace("[16, 32, 64]", "[16]") + '[engine]\ncompile = "always"\n'


def curves(shell: Shell, name: str, study: str, workers: int, width: int) -> dict[str, dict[int, float]]:
    """The curve of each cell, by its parameters, after a search of so many workers."""
    shell.write(f"{name}.toml", study)
    shell.hpo("study", "create", f"{name}.toml")
    started = [shell.start("worker", name, "--width", str(width)) for _ in range(workers)]
    for worker in started:
        said = worker.communicate(timeout=240)[0]
        assert worker.returncode == 0, said
    storage = open_storage(Settings(storage_url=SecretStr(shell.variables["HPO_STORAGE_URL"])))
    trials = storage.study(name).trials
    storage.engine.dispose()
    return {repr(sorted(trial.params.items())): trial.intermediate_values for trial in trials}


@pytest.mark.parametrize("study", [SMALL_STUDY, COMPILED], ids=["operators", "compiled"])
def test_one_worker_and_four_run_the_same_cells_and_the_same_curves(shell: Shell, study: str) -> None:
    # Sums are split among threads, and rounded otherwise by more of them.
    shell.variables = {**shell.variables, "OMP_NUM_THREADS": "1"}
    one = curves(shell, "one", study, workers=1, width=16)
    four = curves(shell, "four", study, workers=4, width=2)
    assert len(one) == 12
    assert all(len(curve) == 3 for curve in one.values())
    assert four == one
