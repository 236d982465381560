"""Leases, reports and costs as rows; who may write, down to the instant of a take-over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import pytest
from optuna.trial import TrialState
from sqlalchemy import Connection, Row, text

from hpo import catalog, ledger
from hpo.catalog import TrialRow
from hpo.claim import LeasedTrial, claim
from hpo.epoch import EpochResult
from hpo.ledger import Lease
from hpo.spec import StudySpec
from hpo.storage import Storage
from hpo.study import Study, create

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    """Three waiting trials of one batch size."""
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 3}), "test").study


def result(epoch: int, loss: float) -> EpochResult:
    return EpochResult(0, epoch, 0, 2 * loss, loss, 1 - loss, 1.0, 0.5, "training", best=True)


def rows(storage: Storage, study: Study) -> list[TrialRow]:
    with storage.transaction() as connection:
        return catalog.trials(connection, study.search_id)


def leases(storage: Storage) -> dict[int, Row[tuple[int, str, int, int, datetime]]]:
    with storage.transaction() as connection:
        found = connection.execute(text("SELECT *, expires - now() AS remaining FROM hpo.lease"))
        return {row.trial_id: row for row in found}


def curve(storage: Storage, study: Study, trial: LeasedTrial) -> dict[int, float]:
    with storage.transaction() as connection:
        return catalog.curves(connection, study.search_id).get(trial.lease.trial_id, {})


def hold(storage: Storage, *trials: LeasedTrial, seconds: float = 30) -> set[int]:
    with storage.transaction() as connection:
        return ledger.hold(connection, [trial.lease for trial in trials], seconds)


def expire(storage: Storage) -> None:
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() - interval '1 second'"))


def write_all(connection: Connection, trial: LeasedTrial) -> set[int]:
    """What an owner does in one transaction: report, charge, finish, of the trials that it still holds."""
    held = ledger.hold(connection, [trial.lease], 30)
    for trial_id in held:
        ledger.report(connection, {trial_id: result(1, 0.25)})
        ledger.charge(connection, {trial_id: {"training": 7.0}})
        ledger.finish(connection, trial_id, TrialState.COMPLETE, 0.25, {"by": "the old owner"})
    return held


# Leases


def test_tokens_rise(storage: Storage, study: Study) -> None:
    trials = [trial for name in "abc" for trial in claim(storage, study, "search", name, 1)]
    tokens = [trial.lease.token for trial in trials]
    assert tokens == sorted(set(tokens))
    assert {row.worker for row in leases(storage).values()} == {"a", "b", "c"}


def test_a_lease_starts_the_trial(storage: Storage, study: Study) -> None:
    claim(storage, study, "search", "one", 1)
    assert [row.state.name for row in rows(storage, study)] == ["RUNNING", "WAITING", "WAITING"]
    seen = storage.study("small").trials[0]
    assert seen.datetime_start is not None
    expire(storage)
    claim(storage, study, "search", "two", 1)
    assert storage.study("small").trials[0].datetime_start == seen.datetime_start  # still the same trial


def test_hold_renews_what_it_holds_and_nothing_else(storage: Storage, study: Study) -> None:
    one, two = claim(storage, study, "search", "one", 2)
    assert hold(storage, one, seconds=1000) == {one.lease.trial_id}
    remaining = {trial_id: row.remaining.total_seconds() for trial_id, row in leases(storage).items()}
    assert 900 < remaining[one.lease.trial_id] <= 1000
    assert remaining[two.lease.trial_id] <= 30


def test_hold_of_nothing_is_nothing(storage: Storage, study: Study) -> None:
    assert hold(storage) == set()
    with storage.transaction() as connection:
        assert ledger.hold(connection, [Lease(1, 1), Lease(999, 2)], 30) == set()


def test_an_overdue_lease_that_nobody_took_is_held_again(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    expire(storage)
    assert hold(storage, trial) == {trial.lease.trial_id}
    assert [t.number for t in claim(storage, study, "search", "two", 3)] == [1, 2]


def test_of_two_owners_only_the_last_one_holds(storage: Storage, study: Study) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire(storage)
    (new,) = claim(storage, study, "search", "new", 1)
    assert old.lease.trial_id == new.lease.trial_id
    assert hold(storage, old) == set()
    assert hold(storage, new) == {new.lease.trial_id}


def test_an_old_owner_can_write_nothing(storage: Storage, study: Study) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire(storage)
    (new,) = claim(storage, study, "search", "new", 1)
    before = leases(storage)[new.lease.trial_id]
    with storage.transaction() as connection:
        assert write_all(connection, old) == set()
        ledger.release(connection, [old.lease])
    row = rows(storage, study)[0]
    assert (row.state, row.value, curve(storage, study, new)) == (TrialState.RUNNING, None, {})
    assert "by" not in row.attributes
    assert leases(storage)[new.lease.trial_id].expires == before.expires


def test_an_owner_who_writes_in_the_instant_of_a_take_over_is_too_late(
    storage: Storage, study: Study, until_blocked: Callable[[], None]
) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire(storage)
    held: list[set[int]] = []

    def write() -> None:
        with storage.transaction() as connection:
            held.append(write_all(connection, old))

    owner = threading.Thread(target=write)
    with storage.transaction() as connection:
        catalog.lock_study(connection, study.search_id)
        ids = ledger.overdue(connection, study.search_id)
        new = ledger.lease(connection, ids, "new", 30)
        owner.start()
        until_blocked()  # the new owner is in the table, but not committed
    owner.join(20)
    assert held == [set()]
    assert rows(storage, study)[0].state == TrialState.RUNNING
    with storage.transaction() as connection:
        assert ledger.hold(connection, new.values(), 30) == set(ids)


def test_an_owner_who_writes_first_keeps_others_out(
    storage: Storage, study: Study, until_blocked: Callable[[], None]
) -> None:
    """A claim that does not look whether the lease is overdue still waits for the writer."""
    (old,) = claim(storage, study, "search", "old", 1)

    def take() -> None:
        with storage.transaction() as connection:
            ledger.lease(connection, [old.lease.trial_id], "new", 30)

    other = threading.Thread(target=take)
    with storage.transaction() as connection:
        assert ledger.hold(connection, [old.lease], 30)
        other.start()
        until_blocked()
        ledger.report(connection, {old.lease.trial_id: result(1, 0.5)})
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
        assert ledger.hold(connection, [second.lease], 30)
        renewal.start()
        until_blocked()  # it holds the first lease, and has not come to the third
        assert ledger.hold(connection, [third.lease], 30)
    renewal.join(20)
    assert got == [{trial.lease.trial_id for trial in (first, second, third)}]


def test_release_makes_a_trial_claimable_at_once(storage: Storage, study: Study) -> None:
    pack = claim(storage, study, "search", "one", 3)
    with storage.transaction() as connection:
        ledger.release(connection, [pack[1].lease])
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
            text("INSERT INTO hpo.worker (name, study, device) VALUES ('dead', 'small', 'cpu')")
        )
        ledger.forget_worker(connection, "dead")
    assert [t.number for t in claim(storage, study, "search", "next", 3)] == [0, 1]
    with storage.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM hpo.worker")).scalar_one() == 0


# Reports, costs, ends


def test_of_two_reports_of_an_epoch_the_first_stays(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    trial_id = trial.lease.trial_id
    for loss in (0.5, 0.25):
        with storage.transaction() as connection:
            ledger.report(connection, {trial_id: result(1, loss)})
    with storage.transaction() as connection:
        ledger.report(connection, {trial_id: result(2, 0.125)})
    assert curve(storage, study, trial) == {1: 0.5, 2: 0.125}
    with storage.transaction() as connection:
        figures = connection.execute(
            text(
                "SELECT epoch, train_loss, validation_loss, validation_accuracy FROM hpo.epoch ORDER BY epoch"
            )
        ).all()
    assert figures == [(1, 1.0, 0.5, 0.5), (2, 0.25, 0.125, 0.875)]


def test_costs_add_up(storage: Storage, study: Study, spec: SpecOf) -> None:
    one, two, _ = claim(storage, study, "search", "one", 3)
    other = create(storage, spec(name="other"), "test").study
    (theirs,) = claim(storage, other, "search", "two", 1)
    with storage.transaction() as connection:
        for _ in range(3):
            ledger.charge(
                connection,
                {
                    one.lease.trial_id: {"training": 1.5, "evaluation": 0.25},
                    two.lease.trial_id: {"training": 0.5},
                },
            )
        ledger.charge(connection, {theirs.lease.trial_id: {"training": 100.0}})
        ledger.charge(connection, {})
        spent = ledger.device_seconds(connection, study.search_id)
        assert ledger.device_seconds(connection, study.full_id) == {}
    assert spent == {"training": pytest.approx(6.0), "evaluation": pytest.approx(0.75)}


@pytest.mark.parametrize(
    ("state", "value"), [(TrialState.COMPLETE, 0.5), (TrialState.PRUNED, 0.75), (TrialState.FAIL, None)]
)
def test_the_end_of_a_trial(storage: Storage, study: Study, state: TrialState, value: float | None) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    with storage.transaction() as connection:
        ledger.finish(
            connection, trial.lease.trial_id, state, value, {"accuracy": 0.5, "text": "a 'quote' é"}
        )
    row = rows(storage, study)[0]
    assert (row.state, row.value) == (state, value)
    assert row.attributes == {"seed": trial.seed, "accuracy": 0.5, "text": "a 'quote' é"}
    assert leases(storage) == {}
    assert hold(storage, trial) == set()
    assert storage.study("small").trials[0].datetime_complete is not None


def test_an_end_is_the_last_word(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.FAIL, None), (TrialState.COMPLETE, 0.1)):
        with storage.transaction() as connection:
            ledger.finish(connection, trial.lease.trial_id, state, value, {"value": value})
    row = rows(storage, study)[0]
    assert (row.state, row.value, row.attributes["value"]) == (TrialState.COMPLETE, 0.5, 0.5)


def test_a_step_that_fails_undoes_the_whole_transaction(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    before = leases(storage)

    def write_and_fail() -> None:
        with storage.transaction() as connection:
            assert write_all(connection, trial)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert rows(storage, study)[0].state == TrialState.RUNNING
    assert curve(storage, study, trial) == {}
    assert leases(storage).keys() == before.keys()
    assert hold(storage, trial) == {trial.lease.trial_id}
