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
from support.outcomes import loss

from hpo.cli.tables import status_table, trial_table
from hpo.search.samplers.distributions import distributions
from hpo.search.samplers.points import plan
from hpo.spec.study_spec import StudySpec
from hpo.store import leases, results, trials
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study import lifecycle
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
        "was not created by hpo, and its parameters are not a point of the search space"
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
    shown = status(storage, study).search
    assert (shown.finished, shown.budget, shown.foreign) == (9, 9, {trial.state.name: 1})
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


@pytest.mark.parametrize("state", [TrialState.WAITING, TrialState.RUNNING])
def test_reports_of_another_program_do_not_count_once_a_trial_is_adopted(
    storage: Storage, spec: SpecOf, state: TrialState
) -> None:
    study = create(storage, spec(sampler=TPE, search={"trials": 8}), "test").study
    trial = create_trial(
        state=state,
        params=POINT,
        distributions=distributions(study.spec.space),
        value=-7.0,
        intermediate_values={1: -8.0, 9: -9.0},
    )
    storage.study("small").add_trial(trial)
    (adopted,) = (t for t in claim(storage, study, "search", "one", 8) if t.point == POINT)
    seen = storage.study("small").trials[adopted.number]
    assert (seen.intermediate_values, seen.values) == ({}, None)
    finish(storage, [adopted])
    (row,) = (row for row in rows(storage, study.search_id) if row.number == adopted.number)
    assert (row.state, row.value) == (TrialState.COMPLETE, loss(POINT))


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


def test_partial_parameters_with_a_seed_fail_with_a_reason(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    storage.study("small").enqueue_trial({"lr": 0.1}, user_attrs={"seed": 3})
    assert len(serve_alone(storage, study, 1)) == 2
    refused = storage.study("small").trials[2]
    assert refused.state == TrialState.FAIL
    assert refused.user_attrs == {
        "seed": 3,
        "reason": "was not created by hpo, and its parameters are not a point of the search space",
    }
    assert is_finished(storage, study, "search")


@pytest.mark.parametrize(
    "text_of_attribute",
    ['"text"', "[1, 2]", "null", "NaN", "not JSON", "", "[" * 100_000, '{"lr": NaN}', '{"lr": 1e999}'],
)
def test_enqueued_parameters_of_any_form_fail(storage: Storage, spec: SpecOf, text_of_attribute: str) -> None:
    study = create(storage, spec(search={"trials": 1}), "test").study
    storage.study("small").enqueue_trial({"lr": 0.1})
    with storage.transaction() as connection:
        statement = text("UPDATE trial_system_attributes SET value_json = :value WHERE key = 'fixed_params'")
        connection.execute(statement, {"value": text_of_attribute})
    assert len(serve_alone(storage, study, 1)) == 1
    with storage.transaction() as connection:
        (refused,) = trials.read(connection, study.search_id).foreign
    assert (refused.number, refused.state) == (1, TrialState.FAIL)


def test_trial_of_another_space_is_shown_and_counted(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 1}), "test").study
    other = storage.study("small")
    other.add_trial(
        create_trial(
            value=0.1,
            params={"opt": "adam"},
            distributions={"opt": CategoricalDistribution(("sgd", "adam"))},
        )
    )
    serve_alone(storage, study, 1)
    shown = status(storage, study)
    assert (shown.search.states["COMPLETE"], shown.search.foreign) == (2, {"COMPLETE": 1})
    assert (shown.search.finished, shown.search.budget) == (1, 1)
    assert shown.search.distinct_cells == 1
    assert "1 (COMPLETE)" in trial_table(storage, study)
    assert promote(storage, study).chosen[0].number == 0


def test_foreign_result_that_looks_like_ours_is_not_promoted(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    looks = {"seed": 1, "accuracy": 1.0, "weights": "../../etc/passwd", "epochs": 9, "kept_epoch": 9}
    kinds = distributions(study.spec.space)
    for name in ("small", "small-full"):
        storage.study(name).add_trial(
            create_trial(value=0.0, params=POINT, distributions=kinds, user_attrs=looks)
        )
    serve_alone(storage, study, 2)
    assert 2 not in [row.number for row in promote(storage, study).chosen]
    finish(storage, claim(storage, study, "full", "one", 4))
    best = best_params(storage, study)
    assert (best.stage, best.trial) == ("full", 1)
    assert files_in_use(storage, study) == set()


HUGE = "x" * 1_000_000
WILD_RESULTS = (
    create_trial(value=-5.0, intermediate_values={1: -5.0, 2: 0.0, 10**9: 1e308}),
    create_trial(state=TrialState.PRUNED, intermediate_values={-3: 1.0, 1: float("inf"), 2: float("-inf")}),
    create_trial(value=float("-inf"), user_attrs={"huge": HUGE}, system_attrs={"huge": [HUGE]}),
    create_trial(state=TrialState.RUNNING, intermediate_values={1: 0.0}),
    create_trial(state=TrialState.FAIL, intermediate_values={1: 1e308}),
)


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband", "pause"])
def test_wild_results_at_points_of_the_space_block_nothing(
    storage: Storage, spec: SpecOf, sampler: str, pruner: str
) -> None:
    changes: dict[str, Any] = {"sampler": {"name": sampler, "startup": 3}, "pruner": {"name": pruner}}
    study = create(storage, spec(space=CONTINUOUS, search={"trials": 12}, **changes), "test").study
    kinds = distributions(study.spec.space)
    for index, trial in enumerate(WILD_RESULTS):
        trial.params, trial.distributions = {**POINT, "lr": 0.1 / 2**index}, kinds
        storage.study("small").add_trial(trial)
    with storage.transaction() as connection:
        # Values that Optuna does not write itself.
        connection.execute(text("UPDATE trial_values SET value = 'NaN' WHERE value = -5.0"))
        connection.execute(
            text("""
            INSERT INTO trial_values (trial_id, objective, value, value_type)
            SELECT trial_id, 1, 0.5, 'FINITE' FROM trials WHERE state = 'COMPLETE'
        """)
        )
        connection.execute(
            text("""
            UPDATE trial_intermediate_values SET intermediate_value = 'NaN' WHERE intermediate_value = 0.0
        """)
        )
    assert len(serve_alone(storage, study, 2)) == 12 - (len(WILD_RESULTS) - 1)
    assert is_finished(storage, study, "search")
    assert promote(storage, study).added == 1
    assert sum(status(storage, study).search.states.values()) == 12


@pytest.mark.parametrize("broken", ["'Infinity'", "'NaN'", "99", "NULL"])
@pytest.mark.parametrize("is_ours", [True, False])
def test_parameters_without_a_meaning_make_a_trial_foreign(
    storage: Storage, spec: SpecOf, broken: str, is_ours: bool
) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    if not is_ours:
        kinds = distributions(study.spec.space)
        storage.study("small").add_trial(
            create_trial(state=TrialState.WAITING, params=POINT, distributions=kinds)
        )
    number = 0 if is_ours else 2
    with storage.transaction() as connection:
        connection.execute(
            text(f"""
                UPDATE trial_params SET param_value = {broken} FROM trials
                WHERE trials.trial_id = trial_params.trial_id AND number = :number
                    AND param_name = 'batch_size'
            """),
            {"number": number},
        )
    serve_alone(storage, study, 2)
    with storage.transaction() as connection:
        (refused,) = trials.read(connection, study.search_id).foreign
    assert (refused.number, refused.state, refused.params) == (number, TrialState.FAIL, None)
    assert is_finished(storage, study, "search")
    assert status(storage, study).search.finished == (1 if is_ours else 2)


def test_value_that_another_program_sets_early_is_replaced(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 1}), "test").study
    (trial,) = claim(storage, study, "search", "one", 1)
    storage.backend.set_trial_state_values(trial.lease.trial_id, TrialState.RUNNING, [7.0])
    with storage.transaction() as connection:
        assert leases.hold(connection, [trial.lease]) == {trial.lease.trial_id}
    finish(storage, [trial])
    (row,) = rows(storage, study.search_id)
    assert row.value == loss(row.point)


def test_deleted_trial_is_lost_and_its_number_is_not_used_again(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(sampler=TPE, search={"trials": 8}), "test").study
    deleted, kept = claim(storage, study, "search", "one", 2)
    trial_id = deleted.lease.trial_id
    with storage.transaction() as connection:
        for table in ("trial_params", "trial_user_attributes", "trial_system_attributes", "trials"):
            connection.execute(text(f"DELETE FROM {table} WHERE trial_id = :id"), {"id": trial_id})
    with storage.transaction() as connection:
        assert leases.hold(connection, [deleted.lease, kept.lease]) == {kept.lease.trial_id}
        results.finish(connection, {trial_id: TrialOutcome(TrialState.COMPLETE, 0.5)})
    finish(storage, [kept])
    serve_alone(storage, study, 2)
    numbers = [row.number for row in rows(storage, study.search_id)]
    assert numbers == [1, *range(2, 9)]
    assert is_finished(storage, study, "search")


@pytest.mark.parametrize("mark", ["stop", ["rule"], {"by": "me", "reason": "x"}, {"by": "rule"}, {}])
def test_stop_mark_of_another_form_stops_until_a_user_resumes(
    storage: Storage, spec: SpecOf, mark: object
) -> None:
    study = create(storage, spec(search={"trials": 1}), "test").study
    storage.study("small").set_user_attr("hpo:stopped", mark)
    assert claim(storage, study, "search", "one", 1) == []
    assert status(storage, study).search.stopped == lifecycle.BY_USER
    assert lifecycle.resume(storage, study).changed == ("search",)
    assert len(serve_alone(storage, study, 1)) == 1


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
