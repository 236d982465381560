"""Trials that others add, take or end through Optuna."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy import text
from support.claims import claim, finish, serve_alone

from hpo.cli.tables import status_table, trial_table
from hpo.search.samplers.distributions import distributions
from hpo.search.samplers.points import plan
from hpo.spec.study_spec import StudySpec
from hpo.store import leases, results, trials
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study.best import best_params
from hpo.study.completion import files_in_use, is_finished
from hpo.study.create import create
from hpo.study.fork import fork
from hpo.study.promote import promote
from hpo.study.status import status
from hpo.study.study import search_seed
from hpo.values.space import Point

SpecOf = Callable[..., StudySpec]

CONTINUOUS = {"lr": {"low": 1e-4, "high": 0.5, "log": True}}
TPE = {"name": "tpe", "startup": 6}
POINT: Point = {"lr": 0.01, "batch_size": 32, "momentum": 0.9, "weight_decay": 0.0}


def rows(storage: Storage, study_id: int) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study_id).ours


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_enqueued_point_of_the_space_runs(storage: Storage, spec: SpecOf, sampler: str) -> None:
    study = create(storage, spec(sampler={"name": sampler, "startup": 3}, search={"trials": 8}), "test").study
    planned = study.planned
    # Whole numbers in any order, as people write them.
    storage.study("small").enqueue_trial(
        {"weight_decay": 0, "momentum": 0.9, "batch_size": 32, "lr": 0.01}, user_attrs={"by": "me"}
    )
    serve_alone(storage, study, 1)
    trial_rows = rows(storage, study.search_id)
    # A random plan is kept; for TPE the added trial counts as part of the budget.
    assert len(trial_rows) == (9 if sampler == "random" else 8)
    assert {row.state for row in trial_rows} == {TrialState.COMPLETE}
    assert trial_rows[planned].point == POINT
    seed = search_seed(study.spec, planned)
    assert trial_rows[planned].record.seed == seed
    seen = storage.study("small").trials[planned]
    assert seen.user_attrs == {"by": "me", "seed": seed, "accuracy": 0.5}
    assert (seen.params, seen.distributions) == (POINT, distributions(study.spec.space))
    assert is_finished(storage, study, "search")


@pytest.mark.parametrize(
    ("params", "space"),
    [
        ({}, {}),
        ({"lr": 0.01}, CONTINUOUS),
        ({**POINT, "lr": 0.5}, {}),
        ({**POINT, "lr": 0.7}, CONTINUOUS),
        ({**POINT, "lr": "0.01"}, CONTINUOUS),
        ({**POINT, "lr": None}, {}),
        ({**POINT, "batch_size": True}, {"batch_size": {"low": 2, "high": 64}}),
        ({**POINT, "dropout": 0.1}, {}),
    ],
)
def test_enqueued_trial_outside_the_space_fails(
    storage: Storage, spec: SpecOf, params: dict[str, Any], space: dict[str, Any]
) -> None:
    study = create(storage, spec(sampler=TPE, space=space, search={"trials": 8}), "test").study
    storage.study("small").enqueue_trial(params)
    serve_alone(storage, study, 2)
    seen = storage.study("small").trials
    assert [trial.state.name for trial in seen] == ["COMPLETE"] * 6 + ["FAIL", "COMPLETE"]
    assert seen[6].user_attrs["reason"] == (
        "was not added by this service and gives no point of the search space"
    )
    with storage.transaction() as connection:
        (refused,) = trials.read(connection, study.search_id).foreign
    assert (refused.number, refused.reason) == (6, "hpo did not add it")
    assert is_finished(storage, study, "search")
    promote(storage, study)


def test_added_waiting_trial_runs(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 1}), "test").study
    kinds = distributions(study.spec.space)
    storage.study("small").add_trial(
        create_trial(state=TrialState.WAITING, params=POINT, distributions=kinds)
    )
    assert serve_alone(storage, study, 1)[1] == POINT


@pytest.mark.parametrize(
    "trial",
    [
        create_trial(state=TrialState.COMPLETE, value=0.0),
        create_trial(state=TrialState.PRUNED),
        create_trial(state=TrialState.FAIL),
        create_trial(
            value=0.0,
            params={"lr": 5.0},
            distributions={"lr": optuna.distributions.FloatDistribution(1e-6, 10, log=True)},
        ),
    ],
)
def test_finished_foreign_trial_only_counts(
    storage: Storage, spec: SpecOf, trial: optuna.trial.FrozenTrial
) -> None:
    study = create(storage, spec(sampler=TPE, space=CONTINUOUS, search={"trials": 10}), "test").study
    storage.study("small").add_trial(trial)
    serve_alone(storage, study, 2)
    assert len(storage.study("small").trials) == 10
    assert len(rows(storage, study.search_id)) == 9
    assert is_finished(storage, study, "search")
    assert promote(storage, study).chosen[0].number != 6


@pytest.mark.parametrize("value", [0.0, float("inf")])
def test_foreign_result_is_history_for_tpe(storage: Storage, spec: SpecOf, value: float) -> None:
    study = create(storage, spec(sampler=TPE, search={"trials": 24}), "test").study
    kinds = distributions(study.spec.space)
    point = study.spec.space.point_at(23) if POINT in plan(study.spec.space, 6, 1) else POINT
    storage.study("small").add_trial(create_trial(value=value, params=point, distributions=kinds))
    assert point not in serve_alone(storage, study, 2)
    assert len(storage.study("small").trials) == 24


def test_trial_taken_through_optuna_is_reclaimed(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    asked_trial = storage.study("small").ask()
    (trial,) = claim(storage, study, "search", "one", 1)
    assert (asked_trial.number, trial.number) == (0, 0)
    # The other process was faster: its result stands, and our worker has lost the trial.
    storage.study("small").tell(0, 0.125)
    with storage.transaction() as connection:
        assert leases.hold(connection, [trial.lease]) == set()
        results.finish(
            connection, {trial.lease.trial_id: TrialOutcome(TrialState.COMPLETE, 0.5, reason="late")}
        )
    row = rows(storage, study.search_id)[0]
    assert (row.state, row.value) == (TrialState.COMPLETE, 0.125)
    assert row.record.reason is None


def test_trial_asked_through_optuna_beyond_the_queue_fails(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 1}), "test").study
    (trial,) = claim(storage, study, "search", "one", 1)
    asked_trial = storage.study("small").ask()
    assert asked_trial.number == 1
    assert claim(storage, study, "search", "two", 1) == []
    assert storage.study("small").trials[1].state == TrialState.FAIL
    finish(storage, [trial])
    assert is_finished(storage, study, "search")


def test_only_promotion_adds_full_trainings(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    storage.study("small-full").enqueue_trial(POINT)
    assert claim(storage, study, "full", "one", 1) == []
    (failed,) = storage.study("small-full").trials
    assert failed.state == TrialState.FAIL
    assert failed.user_attrs["reason"] == "was not added by promotion, as every full training is"
    serve_alone(storage, study, 16)
    assert promote(storage, study).added == 1


def test_plan_is_extended_around_foreign_trials(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 4}), "test").study
    storage.study("small").enqueue_trial(POINT)
    larger = create(storage, spec(search={"trials": 10}), "test").study
    assert len(serve_alone(storage, larger, 3)) == 10
    assert is_finished(storage, study, "search")


WORDS = {"size": CategoricalDistribution(("small", None)), "dropout": FloatDistribution(0, 1)}
ODD_TRIALS = (
    create_trial(value=0.0, params={"size": "small", "dropout": 0.5}, distributions=WORDS),
    create_trial(state=TrialState.FAIL, user_attrs={"seed": "x", "accuracy": None, "epochs": "many"}),
    create_trial(state=TrialState.RUNNING, user_attrs={"seed": 7, "weights": "../../etc", "hpo:paused": 1}),
    create_trial(state=TrialState.WAITING, params={"size": None, "dropout": 0}, distributions=WORDS),
    create_trial(value=float("inf"), intermediate_values={1: float("nan"), 2: 0.5}),
)


@pytest.mark.parametrize("pruner", ["none", "pause"])
def test_nothing_trips_over_odd_trials(storage: Storage, spec: SpecOf, pruner: str) -> None:
    wanted = spec(sampler=TPE, space=CONTINUOUS, pruner={"name": pruner}, search={"trials": 16})
    study = create(storage, wanted, "test").study
    for trial in ODD_TRIALS:
        storage.study("small").add_trial(trial)
        storage.study("small-full").add_trial(trial)
    with storage.transaction() as connection:
        connection.execute(
            text("UPDATE trial_params SET distribution_json = '{' WHERE param_name = 'dropout'")
        )
    assert len(serve_alone(storage, study, 4)) == 16 - len(ODD_TRIALS)
    assert is_finished(storage, study, "search")
    assert promote(storage, study).added == 1
    finish(storage, claim(storage, study, "full", "one", 4))
    assert best_params(storage, study).record.promoted_from is not None
    assert files_in_use(storage, study) == set()
    assert fork(storage, study, spec(name="wide", space=CONTINUOUS), "test").creation.study.inherited == 11
    shown = status(storage, study)
    assert shown.search.states == {"COMPLETE": 13, "FAIL": 3, "PRUNED": 0, "RUNNING": 0, "WAITING": 0}
    assert "small" in status_table(shown)
    table = trial_table(storage, study)
    assert "search: trials of other programs: 6 (COMPLETE), 7 (FAIL), 8 (FAIL)" in table
