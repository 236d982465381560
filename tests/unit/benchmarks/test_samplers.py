"""The searches that `benchmarks.samplers` compares."""

import pytest

from benchmarks.samplers import SEARCHES, Search, history
from hpo.search.samplers.registry import SAMPLERS
from hpo.simulate.curve_table import CurveTable, Measured
from hpo.values.space import cell

TABLE = CurveTable(
    ("lr", "batch_size"),
    {
        cell({"lr": lr, "batch_size": size}): ((Measured(1.0, lr, 0.5, 1.0, 0.1),) * 3,)
        for lr in (0.01, 0.1)
        for size in (16, 32)
    },
)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.name)
def test_every_search_is_a_study_of_the_table(search: Search) -> None:
    spec = search.spec(TABLE, 3, 6)
    assert spec.space.cells == 4
    assert (spec.sampler.name, spec.pruner.name) == (search.sampler, search.pruner)
    assert spec.search.trials == (2 if search.pruner == "none" else 4)


def test_every_sampler_is_compared_with_both_pruners() -> None:
    assert {search.sampler for search in SEARCHES} == set(SAMPLERS)
    assert len({search.name for search in SEARCHES}) == len(SEARCHES)


def test_history_has_complete_trials() -> None:
    assert all(trial.curve and trial.value == trial.curve[3] for trial in history(12))
