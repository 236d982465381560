"""Checkpoints as rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.trial import TrialState
from support.claims import claim
from support.trial_records import save

from hpo.spec.study_spec import StudySpec
from hpo.store import checkpoints, leases, results
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.study.create import create
from hpo.study.study import Study

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    """Three waiting trials of one batch size."""
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 3}), "test").study


def test_a_checkpoint_replaces_the_one_before(storage: Storage, study: Study) -> None:
    first_trial, second_trial, third_trial = claim(storage, study, "search", "one", 3)
    assert save(storage, first_trial, 1) == []
    assert save(storage, second_trial, 1) == []
    assert save(storage, first_trial, 2) == [f"{first_trial.number}-1"]
    ids = [trial.lease.trial_id for trial in (first_trial, second_trial, third_trial)]
    with storage.transaction() as connection:
        assert checkpoints.save(connection, {}) == []
        assert checkpoints.read(connection, ids) == {
            ids[0]: Checkpoint(2, f"{first_trial.number}-2"),
            ids[1]: Checkpoint(1, f"{second_trial.number}-1"),
        }
        assert checkpoints.read(connection, []) == {}


def test_a_checkpoint_is_deleted_when_its_trial_ends(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    save(storage, trial, 1)
    with storage.transaction() as connection:
        leases.release(connection, [trial.lease])
    (again,) = claim(storage, study, "search", "two", 1)
    assert again.checkpoint == Checkpoint(1, "0-1")
    with storage.transaction() as connection:
        results.finish(connection, {trial.lease.trial_id: TrialOutcome(TrialState.COMPLETE, 0.5)})
        assert checkpoints.read(connection, [trial.lease.trial_id]) == {}
