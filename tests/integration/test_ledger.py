"""Leases, checkpoints, reports and costs as rows; who may write, down to the instant of a take-over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState
from sqlalchemy import Connection, Row, text
from support.claims import claim
from support.clients import at_once, expire_leases, reap_study

from hpo.spec.study_spec import StudySpec
from hpo.store import checkpoints, costs, leases, results, studies, trials, workers
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage
from hpo.store.leases import Lease
from hpo.store.results import EpochMetrics, TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study.create import create
from hpo.study.packs import SUSPECT_LOSSES
from hpo.study.schedule import LeasedTrial
from hpo.study.study import Study
from hpo.values.epoch import EpochResult

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    """Three waiting trials of one batch size."""
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 3}), "test").study


def result(epoch: int, loss: float) -> EpochResult:
    return EpochResult(0, epoch, 0, 2 * loss, loss, 1 - loss, 1.0, 0.5, "training", kept_epoch=epoch)


def rows(storage: Storage, study: Study) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study.search_id)


def lease_rows(storage: Storage) -> dict[int, Row[Any]]:
    """By trial id."""
    with storage.transaction() as connection:
        found = connection.execute(text("SELECT *, expires - now() AS remaining FROM hpo.lease"))
        return {row.trial_id: row for row in found}


def curve(storage: Storage, study: Study, trial: LeasedTrial) -> dict[int, float]:
    with storage.transaction() as connection:
        return results.curves(connection, study.search_id)[trial.lease.trial_id].losses


def hold(storage: Storage, *trials: LeasedTrial) -> set[int]:
    with storage.transaction() as connection:
        return leases.hold(connection, [trial.lease for trial in trials])


def reap(storage: Storage, study: Study) -> list[int]:
    with storage.transaction() as connection:
        return leases.reap(connection, study.search_id)


def losses(storage: Storage, trial: LeasedTrial) -> int:
    with storage.transaction() as connection:
        return leases.losses(connection, [trial.lease.trial_id])[trial.lease.trial_id]


def save(storage: Storage, trial: LeasedTrial, epoch: int) -> list[str]:
    with storage.transaction() as connection:
        return checkpoints.save(
            connection, {trial.lease.trial_id: Checkpoint(epoch, f"{trial.number}-{epoch}")}
        )


def write_all(connection: Connection, trial: LeasedTrial) -> set[int]:
    """What an owner does in one transaction: report, charge, finish, of the trials that it still holds."""
    held = leases.hold(connection, [trial.lease])
    for trial_id in held:
        results.report(connection, {trial_id: result(1, 0.25)})
        costs.charge(connection, {trial_id: {"training": 7.0}})
        results.finish(
            connection, {trial_id: TrialOutcome(TrialState.COMPLETE, 0.25, {"by": "the old owner"})}
        )
    return held


# Leases


def test_tokens_rise(storage: Storage, study: Study) -> None:
    trials = [trial for name in "abc" for trial in claim(storage, study, "search", name, 1)]
    tokens = [trial.lease.token for trial in trials]
    assert tokens == sorted(set(tokens))
    assert {row.worker for row in lease_rows(storage).values()} == {"a", "b", "c"}


def test_a_lease_starts_the_trial(storage: Storage, study: Study) -> None:
    claim(storage, study, "search", "one", 1)
    assert [row.state.name for row in rows(storage, study)] == ["RUNNING", "WAITING", "WAITING"]
    seen = storage.study("small").trials[0]
    assert seen.datetime_start is not None
    expire_leases(storage)
    claim(storage, study, "search", "two", 1)
    assert storage.study("small").trials[0].datetime_start == seen.datetime_start  # still the same trial


def test_hold_renews_what_it_holds_by_the_seconds_it_was_given_for(storage: Storage, study: Study) -> None:
    (one,) = claim(storage, study, "search", "one", 1, lease_seconds=1000)
    (two,) = claim(storage, study, "search", "two", 1)
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() + interval '1 second'"))
    assert hold(storage, one) == {one.lease.trial_id}
    remaining = {trial_id: row.remaining.total_seconds() for trial_id, row in lease_rows(storage).items()}
    assert 900 < remaining[one.lease.trial_id] <= 1000
    assert remaining[two.lease.trial_id] <= 1


def test_hold_of_nothing_is_nothing(storage: Storage, study: Study) -> None:
    assert hold(storage) == set()
    with storage.transaction() as connection:
        assert leases.hold(connection, [Lease(1, 1), Lease(999, 2)]) == set()


def test_an_overdue_lease_that_nobody_took_is_held_again(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() - interval '1 second'"))
    assert hold(storage, trial) == {trial.lease.trial_id}
    assert lease_rows(storage)[trial.lease.trial_id].remaining.total_seconds() > 20
    assert [t.number for t in claim(storage, study, "search", "two", 3)] == [1, 2]


def test_of_two_owners_only_the_last_one_holds(storage: Storage, study: Study) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire_leases(storage)
    (new,) = claim(storage, study, "search", "new", 1)
    assert old.lease.trial_id == new.lease.trial_id
    assert hold(storage, old) == set()
    assert hold(storage, new) == {new.lease.trial_id}


def test_an_old_owner_can_write_nothing(storage: Storage, study: Study) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire_leases(storage)
    (new,) = claim(storage, study, "search", "new", 1)
    before = lease_rows(storage)[new.lease.trial_id]
    with storage.transaction() as connection:
        assert write_all(connection, old) == set()
        leases.release(connection, [old.lease])
    row = rows(storage, study)[0]
    assert (row.state, row.value, curve(storage, study, new)) == (TrialState.RUNNING, None, {})
    assert "by" not in row.attributes
    assert lease_rows(storage)[new.lease.trial_id].expires == before.expires


def test_an_owner_who_writes_in_the_instant_of_a_take_over_is_too_late(
    storage: Storage, study: Study, until_blocked: Callable[[], None]
) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire_leases(storage)
    held: list[set[int]] = []

    def write() -> None:
        with storage.transaction() as connection:
            held.append(write_all(connection, old))

    owner = threading.Thread(target=write)
    with storage.transaction() as connection:
        studies.lock(connection, study.search_id)
        ids = leases.reap(connection, study.search_id)
        new = leases.grant(connection, ids, "new", 30)
        owner.start()
        until_blocked()  # the new owner is in the table, but not committed
    owner.join(20)
    assert held == [set()]
    assert rows(storage, study)[0].state == TrialState.RUNNING
    with storage.transaction() as connection:
        assert leases.hold(connection, [mine for mine, _ in new.values()]) == set(ids)


def test_an_owner_who_writes_first_keeps_others_out(
    storage: Storage, study: Study, until_blocked: Callable[[], None]
) -> None:
    """A claim that does not look whether the lease is overdue still waits for the writer."""
    (old,) = claim(storage, study, "search", "old", 1)

    def take() -> None:
        with storage.transaction() as connection:
            leases.grant(connection, [old.lease.trial_id], "new", 30)

    other = threading.Thread(target=take)
    with storage.transaction() as connection:
        assert leases.hold(connection, [old.lease])
        other.start()
        until_blocked()
        results.report(connection, {old.lease.trial_id: result(1, 0.5)})
    other.join(20)
    assert curve(storage, study, old) == {1: 0.5}
    assert hold(storage, old) == set()


def test_two_transactions_that_want_the_same_leases_do_not_deadlock(
    storage: Storage, study: Study, until_blocked: Callable[[], None]
) -> None:
    """As a report and a renewal do; each names them in another order."""
    first, second, third = claim(storage, study, "search", "one", 3)
    got: list[set[int]] = []
    renewal = threading.Thread(target=lambda: got.append(hold(storage, third, second, first)))
    with storage.transaction() as connection:
        assert leases.hold(connection, [second.lease])
        renewal.start()
        until_blocked()  # it holds the first lease, and has not come to the third
        assert leases.hold(connection, [third.lease])
    renewal.join(20)
    assert got == [{trial.lease.trial_id for trial in (first, second, third)}]


def test_release_makes_a_trial_claimable_at_once(storage: Storage, study: Study) -> None:
    pack = claim(storage, study, "search", "one", 3)
    with storage.transaction() as connection:
        leases.release(connection, [pack[1].lease])
    assert [row.state.name for row in rows(storage, study)] == ["RUNNING", "WAITING", "RUNNING"]
    assert hold(storage, *pack) == {pack[0].lease.trial_id, pack[2].lease.trial_id}
    (again,) = claim(storage, study, "search", "two", 3)
    assert (again.number, again.point, again.seed) == (1, pack[1].point, pack[1].seed)
    assert again.lease.token > max(trial.lease.token for trial in pack)


def test_the_trials_of_a_dead_worker_are_claimable_at_once(storage: Storage, study: Study) -> None:
    claim(storage, study, "search", "dead", 2)
    claim(storage, study, "search", "alive", 1)
    with storage.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO hpo.worker (name, study, device, expires) "
                "VALUES ('dead', 'small', 'cpu', now() + interval '1 hour')"
            )
        )
        workers.forget(connection, "dead")
    assert [t.number for t in claim(storage, study, "search", "next", 3)] == [0, 1]
    with storage.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM hpo.worker")).scalar_one() == 0


# Lost trials


def test_reaping_takes_the_overdue_and_no_other(storage: Storage, study: Study, spec: SpecOf) -> None:
    lost = claim(storage, study, "search", "dead", 2)
    (kept,) = claim(storage, study, "search", "alive", 1)
    other = create(storage, spec(name="other"), "test").study
    claim(storage, other, "search", "dead", 1)
    assert reap(storage, study) == []
    expire_leases(storage, "dead")
    assert reap(storage, study) == sorted(trial.lease.trial_id for trial in lost)
    assert [row.state.name for row in rows(storage, study)] == ["WAITING", "WAITING", "RUNNING"]
    workers = {trial_id: row.worker for trial_id, row in lease_rows(storage).items()}
    assert [workers[trial.lease.trial_id] for trial in (*lost, kept)] == [None, None, "alive"]
    assert reap(storage, study) == []
    assert len(reap(storage, other)) == 1


def test_who_was_reaped_holds_nothing_even_before_anyone_takes_over(storage: Storage, study: Study) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire_leases(storage)
    reap(storage, study)
    with storage.transaction() as connection:
        assert write_all(connection, old) == set()
        leases.release(connection, [old.lease])
    row = rows(storage, study)[0]
    assert (row.state, row.value, curve(storage, study, old)) == (TrialState.WAITING, None, {})
    assert lease_rows(storage)[old.lease.trial_id].remaining.total_seconds() < 0


def test_an_owner_who_writes_in_the_instant_of_a_reaping_is_too_late(
    storage: Storage, study: Study, until_blocked: Callable[[], None]
) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire_leases(storage)
    held: list[set[int]] = []
    owner = threading.Thread(target=lambda: held.append(hold(storage, old)))
    with storage.transaction() as connection:
        assert leases.reap(connection, study.search_id)
        owner.start()
        until_blocked()
    owner.join(20)
    assert held == [set()]


def test_reaping_passes_over_who_is_writing_and_does_not_wait(storage: Storage, study: Study) -> None:
    (writing,) = claim(storage, study, "search", "late", 1)
    silent = claim(storage, study, "search", "dead", 2)
    expire_leases(storage)
    with storage.transaction() as connection:
        assert leases.hold(connection, [writing.lease])
        assert reap(storage, study) == [trial.lease.trial_id for trial in silent]
        results.report(connection, {writing.lease.trial_id: result(1, 0.5)})
    assert curve(storage, study, writing) == {1: 0.5}


def test_a_server_that_has_just_started_gives_everyone_the_time_of_a_lease(
    storage: Storage, study: Study
) -> None:
    """The server of the tests has been up for less than an hour, and for more than no time."""
    (patient,) = claim(storage, study, "search", "patient", 1, lease_seconds=3600)
    (hasty,) = claim(storage, study, "search", "hasty", 1, lease_seconds=0)
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() - interval '1 second'"))
    assert reap(storage, study) == [hasty.lease.trial_id]
    assert hold(storage, patient, hasty) == {patient.lease.trial_id}


def test_a_revoked_lease_is_over_at_once(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "dead", 1, lease_seconds=3600)
    with storage.transaction() as connection:
        workers.forget(connection, "dead")
    assert reap(storage, study) == [trial.lease.trial_id]


def test_a_worker_that_was_forgotten_too_early_holds_what_nobody_took(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    with storage.transaction() as connection:
        workers.forget(connection, "one")
    assert hold(storage, trial) == {trial.lease.trial_id}
    assert reap(storage, study) == []


def test_losses_count_in_a_row_without_a_new_checkpoint(storage: Storage, study: Study) -> None:
    found = []
    for epoch in (None, None, 3, None, 5, 6):
        (trial,) = claim(storage, study, "search", "victim", 1)
        if epoch is not None:
            save(storage, trial, epoch)
        expire_leases(storage)
        assert reap(storage, study) == [trial.lease.trial_id]
        found.append(losses(storage, trial))
    assert found == [1, 2, 1, 2, 1, 1]


def test_a_trial_that_was_handed_back_is_not_a_loss(storage: Storage, study: Study) -> None:
    for _ in range(3):
        (trial,) = claim(storage, study, "search", "one", 1)
        with storage.transaction() as connection:
            leases.release(connection, [trial.lease])
    assert losses(storage, trial) == 0
    assert reap(storage, study) == []


def test_a_checkpoint_ends_the_row_of_losses_also_of_one_who_hands_the_trial_back(
    storage: Storage, study: Study
) -> None:
    for _ in range(2):
        claim(storage, study, "search", "victim", 1)
        expire_leases(storage)
    (trial,) = claim(storage, study, "search", "careful", 1)
    save(storage, trial, 4)
    with storage.transaction() as connection:
        leases.release(connection, [trial.lease])
    claim(storage, study, "search", "victim", 1)
    expire_leases(storage)
    reap(storage, study)
    assert losses(storage, trial) == 1


def test_whether_anything_is_lost(storage: Storage, study: Study) -> None:
    def is_anything_lost() -> bool:
        with storage.transaction() as connection:
            return leases.any_lost(connection, study.search_id, SUSPECT_LOSSES)

    assert not is_anything_lost()  # nobody has begun
    (trial,) = claim(storage, study, "search", "one", 1, lease_seconds=3600)
    assert not is_anything_lost()
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() - interval '1 second'"))
    assert not is_anything_lost()  # the server has just started
    expire_leases(storage)
    assert is_anything_lost()
    reap(storage, study)
    assert is_anything_lost()
    (trial,) = claim(storage, study, "search", "two", 1)
    assert not is_anything_lost()
    with storage.transaction() as connection:
        leases.release(connection, [trial.lease])
    assert is_anything_lost()
    (trial,) = claim(storage, study, "search", "three", 1)
    with storage.transaction() as connection:
        results.finish(connection, {trial.lease.trial_id: TrialOutcome(TrialState.COMPLETE, 0.5, {})})
    assert not is_anything_lost()


def test_of_two_reapings_at_once_neither_waits(storage: Storage, study: Study) -> None:
    trials = claim(storage, study, "search", "dead", 3)
    expire_leases(storage)
    with storage.transaction() as connection:
        assert leases.reap(connection, study.search_id) == [trial.lease.trial_id for trial in trials]
        assert reap(storage, study) == []


def test_eight_processes_reap_each_trial_once(storage: Storage, study: Study) -> None:
    trials = claim(storage, study, "search", "dead", 3)
    expire_leases(storage)
    reaped = at_once(8, reap_study, storage.url, "small")
    assert sorted(i for ids in reaped for i in ids) == [trial.lease.trial_id for trial in trials]
    assert {losses(storage, trial) for trial in trials} == {1}


# Checkpoints


def test_a_checkpoint_replaces_the_one_before(storage: Storage, study: Study) -> None:
    one, two, three = claim(storage, study, "search", "one", 3)
    assert save(storage, one, 1) == []
    assert save(storage, two, 1) == []
    assert save(storage, one, 2) == [f"{one.number}-1"]
    ids = [trial.lease.trial_id for trial in (one, two, three)]
    with storage.transaction() as connection:
        assert checkpoints.save(connection, {}) == []
        assert checkpoints.read(connection, ids) == {
            ids[0]: Checkpoint(2, f"{one.number}-2"),
            ids[1]: Checkpoint(1, f"{two.number}-1"),
        }
        assert checkpoints.read(connection, []) == {}


def test_a_checkpoint_goes_with_the_end_of_its_trial_and_not_before(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    save(storage, trial, 1)
    with storage.transaction() as connection:
        leases.release(connection, [trial.lease])
    (again,) = claim(storage, study, "search", "two", 1)
    assert again.checkpoint == Checkpoint(1, "0-1")
    with storage.transaction() as connection:
        results.finish(connection, {trial.lease.trial_id: TrialOutcome(TrialState.COMPLETE, 0.5, {})})
        assert checkpoints.read(connection, [trial.lease.trial_id]) == {}


# Reports, costs, ends


def test_of_two_reports_of_an_epoch_the_first_stays(storage: Storage, study: Study) -> None:
    trial, other = claim(storage, study, "search", "one", 2)
    trial_id, other_id = trial.lease.trial_id, other.lease.trial_id
    with storage.transaction() as connection:
        assert results.report(connection, {}) == set()
        assert results.report(connection, {trial_id: result(1, 0.5)}) == {trial_id}
        new = results.report(connection, {trial_id: result(1, 0.25), other_id: result(1, 0.25)})
        assert new == {other_id}
        assert results.report(connection, {trial_id: result(2, 0.125)}) == {trial_id}
    assert curve(storage, study, trial) == {1: 0.5, 2: 0.125}
    with storage.transaction() as connection:
        figures = connection.execute(
            text(
                "SELECT epoch, train_loss, validation_loss, validation_accuracy FROM hpo.epoch "
                "WHERE trial_id = :trial_id ORDER BY epoch"
            ),
            {"trial_id": trial_id},
        ).all()
        assert results.epoch_metrics(connection, {trial_id: 2}) == {trial_id: EpochMetrics(0.125, 0.875)}
    assert figures == [(1, 1.0, 0.5, 0.5), (2, 0.25, 0.125, 0.875)]


def test_costs_add_up(storage: Storage, study: Study, spec: SpecOf) -> None:
    one, two, _ = claim(storage, study, "search", "one", 3)
    other = create(storage, spec(name="other"), "test").study
    (theirs,) = claim(storage, other, "search", "two", 1)
    with storage.transaction() as connection:
        for _ in range(3):
            costs.charge(
                connection,
                {
                    one.lease.trial_id: {"training": 1.5, "evaluation": 0.25},
                    two.lease.trial_id: {"training": 0.5},
                },
            )
            costs.charge_study(connection, study.search_id, {"idle": 2.0, "training": 0.25})
        costs.charge(connection, {theirs.lease.trial_id: {"training": 100.0}})
        costs.charge_study(connection, other.search_id, {"idle": 100.0})
        costs.charge(connection, {})
        costs.charge_study(connection, study.search_id, {})
        spent = costs.device_seconds(connection, study.search_id)
        by_trial = costs.trial_seconds(connection, study.search_id)
        assert costs.device_seconds(connection, study.full_id) == {}
    assert by_trial == {0: {"training": 4.5, "evaluation": 0.75}, 1: {"training": 1.5}}
    assert spent == {"training": 6.75, "evaluation": 0.75, "idle": 6.0}


def test_a_delivery_is_new_once(storage: Storage) -> None:
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


@pytest.mark.parametrize(
    ("state", "value"), [(TrialState.COMPLETE, 0.5), (TrialState.PRUNED, 0.75), (TrialState.FAIL, None)]
)
def test_the_end_of_a_trial(storage: Storage, study: Study, state: TrialState, value: float | None) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    with storage.transaction() as connection:
        results.finish(
            connection,
            {trial.lease.trial_id: TrialOutcome(state, value, {"accuracy": 0.5, "text": "a 'quote' é"})},
        )
    row = rows(storage, study)[0]
    assert (row.state, row.value) == (state, value)
    assert row.attributes == {"seed": trial.seed, "accuracy": 0.5, "text": "a 'quote' é"}
    assert lease_rows(storage) == {}
    assert hold(storage, trial) == set()
    assert storage.study("small").trials[0].datetime_complete is not None


def test_an_end_takes_the_epochs_after_it_along(storage: Storage, study: Study) -> None:
    """A former owner had come further, and what ends the trial now went on from an older checkpoint."""
    pack = claim(storage, study, "search", "one", 2)
    with storage.transaction() as connection:
        for epoch in (1, 2, 3, 4):
            results.report(connection, {trial.lease.trial_id: result(epoch, 1 / epoch) for trial in pack})
        results.finish(
            connection, {pack[0].lease.trial_id: TrialOutcome(TrialState.PRUNED, 0.5, {}, epochs=2)}
        )
        results.finish(connection, {pack[1].lease.trial_id: TrialOutcome(TrialState.FAIL, None, {})})
        epochs = connection.execute(text("SELECT trial_id, epoch FROM hpo.epoch ORDER BY 1, 2")).all()
    first, second = (trial.lease.trial_id for trial in pack)
    assert epochs == [(first, 1), (first, 2), *((second, epoch) for epoch in (1, 2, 3, 4))]
    assert [t.last_step for t in storage.study("small").trials] == [2, 4, None]


def test_a_trial_that_changed_hands_says_how_often(storage: Storage, study: Study) -> None:
    for _ in range(3):
        (trial,) = claim(storage, study, "search", "one", 1)
        expire_leases(storage)
    with storage.transaction() as connection:
        results.finish(
            connection, {trial.lease.trial_id: TrialOutcome(TrialState.COMPLETE, 0.5, {"accuracy": 0.5})}
        )
    assert rows(storage, study)[0].attributes == {"seed": trial.seed, "accuracy": 0.5, "takeovers": 2}


def test_an_end_is_the_last_word(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.FAIL, None), (TrialState.COMPLETE, 0.1)):
        with storage.transaction() as connection:
            results.finish(connection, {trial.lease.trial_id: TrialOutcome(state, value, {"value": value})})
    row = rows(storage, study)[0]
    assert (row.state, row.value, row.attributes["value"]) == (TrialState.COMPLETE, 0.5, 0.5)


def test_a_step_that_fails_undoes_the_whole_transaction(storage: Storage, study: Study) -> None:
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
