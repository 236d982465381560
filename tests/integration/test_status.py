"""The status of a study in figures."""

from __future__ import annotations

import json
from collections.abc import Callable

from optuna.trial import TrialState
from sqlalchemy import text
from support.claims import claim
from support.outcomes import trained

from hpo.spec.study_spec import StudySpec
from hpo.store import costs, leases, results
from hpo.store.connection import Storage
from hpo.store.workers import WorkerEntry
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.schedule import LeasedTrial
from hpo.study.status import ACTIVITIES, status
from hpo.study.study import Study
from hpo.worker.lease_renewal import LeaseRenewal

SpecOf = Callable[..., StudySpec]


def finish(
    storage: Storage, trial: LeasedTrial, value: float | None, state: TrialState = TrialState.COMPLETE
) -> None:
    with storage.transaction() as connection:
        costs.charge(connection, {trial.lease.trial_id: {"training": 2.0, "evaluation": 0.5}})
        results.finish(connection, {trial.lease.trial_id: trained(value, state, 0.75)})


def next_trial(storage: Storage, study: Study) -> LeasedTrial:
    (trial,) = claim(storage, study, "search", "one", 1)
    return trial


def test_status_of_a_new_study(storage: Storage, spec: SpecOf) -> None:
    wanted = spec(promotion={"top": 3, "seeds": 2})
    study = create(storage, wanted, "test").study
    nothing = {"COMPLETE": 0, "FAIL": 0, "PRUNED": 0, "RUNNING": 0, "WAITING": 0}
    empty: dict[str, object] = {
        "best": None,
        "device_seconds": 0,
        "activities": dict.fromkeys(ACTIVITIES, 0),
        "trial_seconds": {},
        "stopped": None,
        "retried": 0,
        "failures": None,
        "foreign": {},
        "to_come": 0,
        "refits": 0,
        "due": 0,
    }
    assert status(storage, study).to_json() == {
        "study": "small",
        "fingerprint": wanted.fingerprint,
        "objective": {"metric": "loss", "direction": "minimize"},
        "search": {
            "budget": 12,
            "states": {**nothing, "WAITING": 12},
            "paused": 0,
            "distinct_cells": 12,
            **empty,
        },
        "full": {"budget": 6, "states": nothing, "paused": 0, "distinct_cells": 0, **empty},
        "workers": (),
        "test_reads": [],
    }


def test_status_of_a_running_study(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    trials = [next_trial(storage, study) for _ in range(6)]
    finish(storage, trials[0], 0.5)
    finish(storage, trials[1], 0.25)
    finish(storage, trials[2], 0.25)
    finish(storage, trials[3], 0.125, TrialState.PRUNED)
    finish(storage, trials[4], None, TrialState.FAIL)
    with storage.transaction() as connection:
        costs.charge_study(connection, study.search_id, {"database": 0.75, "idle": 3.0})
    LeaseRenewal(storage, WorkerEntry("one", study.name, "cpu")).renew()
    now = status(storage, study)
    assert now.search.states == {"COMPLETE": 3, "FAIL": 1, "PRUNED": 1, "RUNNING": 1, "WAITING": 6}
    assert (now.search.finished, now.search.distinct_cells) == (5, 12)
    assert now.search.device_seconds == 16.25
    spent = {"training": 10.0, "evaluation": 2.5, "database": 0.75, "checkpoints": 0.0, "idle": 3.0}
    assert now.search.activities == spent
    assert tuple(now.search.activities) == ACTIVITIES
    assert now.search.trial_seconds == {n: {"training": 2.0, "evaluation": 0.5} for n in range(5)}
    output = json.loads(json.dumps(now.to_json()))
    assert output["search"]["best"] == {
        "trial": 1,
        "value": 0.25,
        "params": trials[1].point,
        "accuracy": 0.75,
        "metrics": {"validation_accuracy": 0.75},
    }
    assert output["workers"] == [{"name": "one", "device": "cpu", "running": 1, "quiet_seconds": None}]


def test_status_of_a_study_in_full_training(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 2}, promotion={"top": 1, "seeds": 2}), "test").study
    finish(storage, next_trial(storage, study), 0.5)
    finish(storage, next_trial(storage, study), 0.25)
    promote(storage, study)
    first, second = claim(storage, study, "full", "one", 2)
    finish(storage, second, 0.0625)
    full = status(storage, study).full
    assert (full.budget, full.finished, full.distinct_cells) == (2, 1, 1)  # one cell, two seeds
    assert full.best is not None
    assert (full.best.trial, full.best.value, full.best.params) == (1, 0.0625, first.point)
    assert full.device_seconds == 2.5


def test_budget_of_a_small_space_is_its_cells(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 1000}), "test").study
    assert status(storage, study).search.budget == 24


def test_budget_counts_trials_not_suggested_yet(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(sampler={"name": "tpe", "startup": 3}), "test").study
    search = status(storage, study).search
    assert (search.budget, sum(search.states.values())) == (12, 3)


def test_status_counts_one_study_only(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    other_study = create(storage, spec(name="other"), "test").study
    finish(storage, next_trial(storage, other_study), 0.5)
    with storage.transaction() as connection:
        costs.charge_study(connection, other_study.search_id, {"idle": 100.0})
    LeaseRenewal(storage, WorkerEntry("theirs", other_study.name, "cpu")).renew()
    now = status(storage, study)
    assert now.workers == ()
    assert now.search.best is None
    assert now.search.device_seconds == 0
    assert now.search.trial_seconds == {}


def test_trial_without_a_live_worker_is_not_shown_as_running(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    finish(storage, next_trial(storage, study), 0.5)
    finish(storage, next_trial(storage, study), 0.25)
    promote(storage, study)
    larger = create(storage, spec(search={"trials": 3}), "test").study
    next_trial(storage, larger)
    claim(storage, larger, "full", "one", 1)
    LeaseRenewal(storage, WorkerEntry("one", study.name, "cpu")).renew()
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET seconds = 0, expires = now() - interval '1 second'"))
    now = status(storage, study)
    assert (now.search.states["RUNNING"], now.search.states["WAITING"]) == (0, 1)
    assert (now.full.states["RUNNING"], now.full.states["WAITING"]) == (0, 1)
    assert [worker.running for worker in now.workers] == [0]


def test_killed_worker_is_shown_until_its_lease_expires(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    for name in ("one", "two"):
        LeaseRenewal(storage, WorkerEntry(name, study.name, "cpu")).renew()
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.worker SET expires = now() WHERE name = 'two'"))
    assert [worker.name for worker in status(storage, study).workers] == ["one"]
    with storage.transaction() as connection:
        assert list(connection.execute(text("SELECT name FROM hpo.worker")).scalars()) == ["one"]


def test_status_keeps_running_trials_running(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    trial = next_trial(storage, study)
    assert status(storage, study).search.states["RUNNING"] == 1
    with storage.transaction() as connection:
        assert leases.hold(connection, [trial.lease]) == {trial.lease.trial_id}
