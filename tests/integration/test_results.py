"""Epochs, outcomes and their transactions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from support.claims import claim
from support.clients import expire_leases
from support.outcomes import trained
from support.trial_records import curve, hold, lease_rows, result, rows, write_all

from hpo.spec.study_spec import StudySpec
from hpo.store import histories, results
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.store.results import TrialOutcome
from hpo.study.create import create
from hpo.study.study import Study
from hpo.values.epoch import TRAIN_LOSS, VALIDATION_ACCURACY, VALIDATION_LOSS, EpochResult
from hpo.values.objective import LOSS

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    """Three waiting trials of one batch size."""
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 3}), "test").study


def test_the_first_report_of_an_epoch_stays(storage: Storage, study: Study) -> None:
    trial, other = claim(storage, study, "search", "one", 2)
    trial_id, other_id = trial.lease.trial_id, other.lease.trial_id
    with storage.transaction() as connection:
        assert results.report(connection, {}, LOSS) == set()
        assert results.report(connection, {trial_id: result(1, 0.5)}, LOSS) == {trial_id}
        new = results.report(connection, {trial_id: result(1, 0.25), other_id: result(1, 0.25)}, LOSS)
        assert new == {other_id}
        assert results.report(connection, {trial_id: result(2, 0.125)}, LOSS) == {trial_id}
    assert curve(storage, study, trial) == {1: 0.5, 2: 0.125}
    with storage.transaction() as connection:
        query = text("SELECT epoch, metrics FROM hpo.epoch WHERE trial_id = :trial_id ORDER BY epoch")
        figures = connection.execute(query, {"trial_id": trial_id}).all()
        assert results.epoch_metrics(connection, {trial_id: 2}, LOSS) == {
            trial_id: {TRAIN_LOSS: 0.25, VALIDATION_LOSS: 0.125, VALIDATION_ACCURACY: 0.875}
        }
    assert figures == [
        (1, {TRAIN_LOSS: 1.0, VALIDATION_LOSS: 0.5, VALIDATION_ACCURACY: 0.5}),
        (2, {TRAIN_LOSS: 0.25, VALIDATION_LOSS: 0.125, VALIDATION_ACCURACY: 0.875}),
    ]


def test_epoch_has_its_worker_its_device_seconds_and_its_time(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    before = datetime.now(UTC)
    with storage.transaction() as connection:
        results.report(connection, {trial.lease.trial_id: result(1, 0.5)}, LOSS, "one")
    with storage.snapshot() as connection:
        (epoch,) = histories.epochs(connection, [study.search_id])[trial.lease.trial_id]
        times = histories.trial_times(connection, [study.search_id])[trial.lease.trial_id]
    assert (epoch.epoch, epoch.worker, epoch.seconds) == (1, "one", 1.5)
    assert epoch.at is not None
    assert before <= epoch.at <= datetime.now(UTC)
    assert times.started is not None
    assert timedelta(0) <= epoch.at - times.started < timedelta(minutes=5)
    assert (times.ended, times.epochs, times.seconds) == (None, 1, 0.0)


@pytest.mark.parametrize("loss", [5e-324, 1 / 3, 0.1 + 0.2, 1.0, 1e22, 1.7976931348623157e308])
def test_any_metrics_are_recorded_exactly(storage: Storage, study: Study, loss: float) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    metrics = {VALIDATION_LOSS: loss, "größte Norm": -loss}
    epoch = EpochResult(0, 1, metrics, 0.0, 0.0, "training", 1)
    with storage.transaction() as connection:
        results.report(connection, {trial.lease.trial_id: epoch}, LOSS)
        assert results.epoch_metrics(connection, {trial.lease.trial_id: 1}, LOSS) == {
            trial.lease.trial_id: metrics
        }
        results.finish(connection, {trial.lease.trial_id: TrialOutcome(TrialState.PRUNED, metrics=metrics)})
    assert curve(storage, study, trial) == {1: loss}
    assert rows(storage, study)[0].record.metrics == metrics


def test_best_recorded_epoch_takes_the_place_of_a_missing_one(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    with storage.transaction() as connection:
        for epoch, loss in enumerate((10.0, 9.0, 9.5), start=1):
            results.report(connection, {trial.lease.trial_id: result(epoch, loss)}, LOSS)
        found = results.epoch_metrics(connection, {trial.lease.trial_id: 7, 0: 1}, LOSS)
    assert {trial_id: metrics[VALIDATION_LOSS] for trial_id, metrics in found.items()} == {
        trial.lease.trial_id: 9.0
    }


@pytest.mark.parametrize(
    ("state", "value"), [(TrialState.COMPLETE, 0.5), (TrialState.PRUNED, 0.75), (TrialState.FAIL, None)]
)
def test_finish_sets_state_value_and_record_and_deletes_the_lease(
    storage: Storage, study: Study, state: TrialState, value: float | None
) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    with storage.transaction() as connection:
        outcome = trained(value, state, epochs=3, kept_epoch=2, weights="file", reason="a 'quote' é")
        results.finish(connection, {trial.lease.trial_id: outcome}, "one", "cpu")
    row = rows(storage, study)[0]
    assert (row.state, row.value) == (state, value)
    assert row.record == TrialRecord(
        trial.seed,
        worker="one",
        device="cpu",
        epochs=3,
        kept_epoch=2,
        metrics={VALIDATION_ACCURACY: 0.5},
        weights="file",
        reason="a 'quote' é",
    )
    assert lease_rows(storage) == {}
    assert hold(storage, trial) == set()
    assert storage.study("small").trials[0].datetime_complete is not None


def test_finish_deletes_the_epochs_after_the_last(storage: Storage, study: Study) -> None:
    """A former owner had come further, and what ends the trial now went on from an older checkpoint."""
    pack = claim(storage, study, "search", "one", 2)
    with storage.transaction() as connection:
        for epoch in (1, 2, 3, 4):
            results.report(
                connection, {trial.lease.trial_id: result(epoch, 1 / epoch) for trial in pack}, LOSS
            )
        results.finish(connection, {pack[0].lease.trial_id: TrialOutcome(TrialState.PRUNED, 0.5, epochs=2)})
        results.finish(connection, {pack[1].lease.trial_id: TrialOutcome(TrialState.FAIL)})
        epochs = connection.execute(text("SELECT trial_id, epoch FROM hpo.epoch ORDER BY 1, 2")).all()
    first, second = (trial.lease.trial_id for trial in pack)
    assert epochs == [(first, 1), (first, 2), *((second, epoch) for epoch in (1, 2, 3, 4))]
    assert [t.last_step for t in storage.study("small").trials] == [2, 4, None]


def test_finish_records_the_number_of_takeovers(storage: Storage, study: Study) -> None:
    for _ in range(3):
        (trial,) = claim(storage, study, "search", "one", 1)
        expire_leases(storage)
    with storage.transaction() as connection:
        results.finish(connection, {trial.lease.trial_id: trained(0.5)})
    assert rows(storage, study)[0].record.takeovers == 2


def test_a_finished_trial_stays_as_it_is(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.FAIL, None), (TrialState.COMPLETE, 0.1)):
        with storage.transaction() as connection:
            outcome = TrialOutcome(state, value, reason=str(value))
            results.finish(connection, {trial.lease.trial_id: outcome})
    row = rows(storage, study)[0]
    assert (row.state, row.value, row.record.reason) == (TrialState.COMPLETE, 0.5, "0.5")
    assert storage.study("small").trials[0].user_attrs["reason"] == "0.5"


def test_record_is_mirrored_into_the_attributes_when_a_trial_ends(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    expire_leases(storage)
    claim(storage, study, "search", "two", 1)
    assert storage.study("small").trials[0].user_attrs == {}
    outcome = TrialOutcome(
        TrialState.FAIL,
        epochs=3,
        kept_epoch=2,
        metrics={VALIDATION_ACCURACY: 0.1 + 0.2},
        weights="file",
        reason="a 'quote' é",
        traceback="line\nline",
    )
    with storage.transaction() as connection:
        results.finish(connection, {trial.lease.trial_id: outcome}, "two", "cpu")
    attributes = {
        "seed": trial.seed,
        "takeovers": 1,
        "worker": "two",
        "device": "cpu",
        "epochs": 3,
        "kept_epoch": 2,
        "accuracy": 0.1 + 0.2,
        "weights": "file",
        "reason": "a 'quote' é",
        "traceback": "line\nline",
    }
    assert storage.study("small").trials[0].user_attrs == attributes
    before = rows(storage, study)
    with storage.transaction() as connection:
        connection.execute(text("UPDATE trial_user_attributes SET value_json = '[]'"))
    assert rows(storage, study) == before


def test_message_that_postgres_refuses_is_stored_without_its_odd_characters(
    storage: Storage, study: Study
) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    outcome = TrialOutcome(TrialState.FAIL, reason="nul \0, surrogate \udcff")
    with storage.transaction() as connection:
        results.finish(connection, {trial.lease.trial_id: outcome})
    assert rows(storage, study)[0].record.reason == "nul \N{REPLACEMENT CHARACTER}, surrogate ?"


def test_a_failed_step_rolls_back_the_whole_transaction(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    before = lease_rows(storage)

    def write_and_fail() -> None:
        with storage.transaction() as connection:
            assert write_all(connection, trial)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert rows(storage, study)[0].state == TrialState.RUNNING
    assert curve(storage, study, trial) == {}
    assert lease_rows(storage).keys() == before.keys()
    assert hold(storage, trial) == {trial.lease.trial_id}
