"""Device seconds, and reports that arrive twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.claims import claim

from hpo.spec.study_spec import StudySpec
from hpo.store import costs, workers
from hpo.store.connection import Storage
from hpo.study.create import create
from hpo.study.study import Study

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    """Three waiting trials of one batch size."""
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 3}), "test").study


def test_costs_add_up(storage: Storage, study: Study, spec: SpecOf) -> None:
    first_trial, second_trial, _ = claim(storage, study, "search", "one", 3)
    other_study = create(storage, spec(name="other"), "test").study
    (other_trial,) = claim(storage, other_study, "search", "two", 1)
    with storage.transaction() as connection:
        for _ in range(3):
            costs.charge(
                connection,
                {
                    first_trial.lease.trial_id: {"training": 1.5, "evaluation": 0.25},
                    second_trial.lease.trial_id: {"training": 0.5},
                },
            )
            costs.charge_study(connection, study.search_id, {"idle": 2.0, "training": 0.25})
        costs.charge(connection, {other_trial.lease.trial_id: {"training": 100.0}})
        costs.charge_study(connection, other_study.search_id, {"idle": 100.0})
        costs.charge(connection, {})
        costs.charge_study(connection, study.search_id, {})
        spent = costs.device_seconds(connection, study.search_id)
        by_trial = costs.trial_seconds(connection, study.search_id)
        assert costs.device_seconds(connection, study.full_id) == {}
    assert by_trial == {0: {"training": 4.5, "evaluation": 0.75}, 1: {"training": 1.5}}
    assert spent == {"training": 6.75, "evaluation": 0.75, "idle": 6.0}


def test_a_delivery_is_recorded_once(storage: Storage) -> None:
    def is_new(worker: str, number: int) -> bool:
        with storage.transaction() as connection:
            return costs.record_delivery(connection, worker, number)

    assert is_new("one", 7)
    assert not is_new("one", 7)
    assert is_new("two", 7)
    assert is_new("one", 12)
    assert not is_new("one", 7)
    with storage.transaction() as connection:
        workers.dismiss(connection, "one")
    assert is_new("one", 3)
    assert not is_new("two", 7)
