"""Samplers of Optuna in stored studies: sequences for any number of workers, and whole searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState
from support.claims import claim, finish, serve_alone
from support.clients import at_once, run_trials
from support.outcomes import loss, trained

from hpo.search.samplers.qmc import QmcSampler
from hpo.simulate.curve_table import CurveTable, Measured
from hpo.simulate.replay import replay_search
from hpo.spec.study_spec import StudySpec
from hpo.store import results, trials
from hpo.store.connection import Storage
from hpo.store.trials import TrialRow
from hpo.study.create import create
from hpo.study.fork import fork
from hpo.study.retry import retry
from hpo.study.study import Study
from hpo.values.space import Point, cell

SpecOf = Callable[..., StudySpec]

EPOCHS = 9

QMC = {"name": "QMCSampler", "scramble": True}
RANGES = {
    "lr": {"low": 1e-4, "high": 0.5, "log": True},
    "momentum": {"low": 0.0, "high": 0.9},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
}
OPTUNAS: list[dict[str, Any]] = [
    {"name": "CmaEsSampler", "startup": 4, "popsize": 4},
    {"name": "QMCSampler", "startup": 4},
    {"name": "NSGAIISampler", "startup": 4, "population_size": 4},
    {"name": "BruteForceSampler", "startup": 4},
]


def rows(storage: Storage, study: Study) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study.search_id).ours


def points(storage: Storage, study: Study) -> list[Point]:
    """Return the points of the search in the order of the trials."""
    return [row.point for row in rows(storage, study)]


def sequence(study: Study, count: int) -> list[Point]:
    return QmcSampler(scramble=True).initial(study.spec.space, count, study.spec.seed)


@pytest.mark.parametrize("workers", [1, 4])
def test_sample_n_is_the_nth_of_the_sequence_for_any_number_of_workers(
    workers: int, storage: Storage, spec: SpecOf
) -> None:
    study = create(storage, spec(sampler=QMC, space=RANGES, search={"trials": 32}), "test").study
    at_once(workers, run_trials, storage.url, "small", 3)
    assert points(storage, study) == sequence(study, 32)
    assert {row.state for row in rows(storage, study)} == {TrialState.COMPLETE}


def test_sequence_goes_on_after_growth_and_failures(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(sampler=QMC, space=RANGES, search={"trials": 8}), "test").study
    first, *others = claim(storage, study, "search", "one", 8)
    finish(storage, others)
    with storage.transaction() as connection:
        results.finish(connection, {first.lease.trial_id: trained(None, TrialState.FAIL)})
    retry(storage, study, [first.number], ["search"])
    study = create(storage, spec(sampler=QMC, space=RANGES, search={"trials": 20}), "test").study
    serve_alone(storage, study, 4)
    expected = sequence(study, 20)
    assert points(storage, study) == [*expected[:8], expected[first.number], *expected[8:]]


def test_fork_continues_the_sequence(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(sampler=QMC, space=RANGES, search={"trials": 8}), "test").study
    serve_alone(storage, study, 4)
    wanted = spec(name="fork", sampler=QMC, space=RANGES, search={"trials": 8})
    forked = fork(storage, study, wanted, "test").creation.study
    assert points(storage, forked) == sequence(study, 16)


def test_baseline_precedes_the_sequence(storage: Storage, spec: SpecOf) -> None:
    baseline = {"lr": 0.01, "batch_size": 16, "momentum": 0.5, "weight_decay": 1e-4}
    wanted = spec(sampler=QMC, space=RANGES, baseline=baseline, search={"trials": 8})
    study = create(storage, wanted, "test").study
    assert points(storage, study) == [baseline, *sequence(study, 7)]


def table_of(spec: StudySpec) -> CurveTable:
    """A run of each cell, which falls towards the loss of its point."""

    def run(point: Point) -> tuple[Measured, ...]:
        return tuple(Measured(1.0, loss(point) + 1 / epoch, 0.5, 2.0, 0.5) for epoch in range(1, EPOCHS + 1))

    cells = [spec.space.point_at(index) for index in range(spec.space.cells or 0)]
    return CurveTable(tuple(spec.space.domains), {cell(point): (run(point),) for point in cells})


def only_study(storage: Storage) -> list[Any]:
    """Return Optuna's trials of the first study in the storage."""
    search = storage.backend.get_all_studies()[0]
    return storage.backend.get_all_trials(search._study_id)


@pytest.mark.parametrize("sampler", OPTUNAS, ids=lambda sampler: str(sampler["name"]))
@pytest.mark.parametrize("pruner", ["none", "pause"])
def test_every_cell_is_tried_once_by_several_workers(
    pruner: str, sampler: dict[str, Any], storage: Storage, spec: SpecOf
) -> None:
    study = spec(sampler=sampler, pruner={"name": pruner}, search={"trials": 100})
    baseline = study.space.point_at(5)
    study = spec(
        sampler=sampler,
        pruner={"name": pruner},
        search={"trials": 100},
        baseline=baseline,
        promotion={"top": 2},
    )
    replay = replay_search(storage, study, table_of(study), workers=4, width=2)
    found = only_study(storage)
    assert len(found) == len({cell(trial.params) for trial in found}) == 24
    assert cell(found[0].params) == cell(baseline)
    assert all(trial.state.is_finished() for trial in found)
    assert len(replay.promoted) == 2


@pytest.mark.parametrize("sampler", OPTUNAS, ids=lambda sampler: str(sampler["name"]))
def test_search_of_one_worker_can_be_replayed(
    sampler: dict[str, Any], storage: Storage, spec: SpecOf
) -> None:
    study = spec(sampler=sampler, pruner={"name": "pause"}, search={"trials": 16})
    first, second = (replay_search(storage, study, table_of(study), width=2) for _ in range(2))
    assert first == second


def test_gaussian_process_of_optuna_searches_by_several_workers(storage: Storage, spec: SpecOf) -> None:
    study = spec(sampler={"name": "GPSampler", "startup": 4}, pruner={"name": "pause"}, search={"trials": 10})
    replay_search(storage, study, table_of(study), workers=2, width=2)
    assert len({cell(trial.params) for trial in only_study(storage)}) == 10


def test_plan_is_drawn_without_imports_inside_a_transaction(
    storage: Storage, spec: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test of the registry checks that nothing is left to import after `load_plan`."""
    calls: list[str] = []
    transaction = Storage.transaction

    def recorded(opened: Storage) -> Any:
        calls.append("transaction")
        return transaction(opened)

    monkeypatch.setattr(QmcSampler, "load_plan", lambda _sampler: calls.append("load"))
    monkeypatch.setattr(Storage, "transaction", recorded)
    wanted = spec(sampler=QMC, space=RANGES, search={"trials": 4})
    study = create(storage, wanted, "test").study
    fork(storage, study, spec(name="fork", sampler=QMC, space=RANGES), "test")
    assert calls == ["load", "transaction"] * 2
