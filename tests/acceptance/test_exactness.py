"""The result of a random search does not depend on the number of workers or the width of their packs."""

import pytest
from pydantic import SecretStr
from support.shell import SMALL_STUDY, Shell

from hpo.settings import Settings
from hpo.store.connection import open_storage

# One batch size only, so that a single program has to be compiled.
COMPILED = SMALL_STUDY.replace("[16, 32, 64]", "[16]") + '[engine]\ncompile = "always"\n'


def curves(shell: Shell, name: str, study: str, workers: int, width: int) -> dict[str, dict[int, float]]:
    """Run a search with this number of workers; return the loss by epoch of each cell."""
    shell.write(f"{name}.toml", study)
    shell.hpo("study", "create", f"{name}.toml")
    processes = [shell.start("worker", name, "--width", str(width)) for _ in range(workers)]
    for process in processes:
        output = process.communicate(timeout=240)[0]
        assert process.returncode == 0, output
    storage = open_storage(Settings(storage_url=SecretStr(shell.variables["HPO_STORAGE_URL"])))
    trials = storage.study(name).trials
    storage.engine.dispose()
    return {repr(sorted(trial.params.items())): trial.intermediate_values for trial in trials}


@pytest.mark.slow
@pytest.mark.parametrize(
    "study", [pytest.param(SMALL_STUDY, id="eager"), pytest.param(COMPILED, id="compiled")]
)
def test_one_worker_and_four_get_the_same_curves(shell: Shell, study: str) -> None:
    # With another number of threads a sum is split and rounded in another way.
    shell.variables = {**shell.variables, "OMP_NUM_THREADS": "1"}
    alone = curves(shell, "alone", study, workers=1, width=16)
    shared = curves(shell, "shared", study, workers=4, width=2)
    assert len(alone) == 12
    assert all(len(curve) == 3 for curve in alone.values())
    assert shared == alone
