"""Who may write about a trial, down to the instant of a takeover."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from support.claims import claim
from support.clients import at_once, expire_leases, reap_study
from support.trial_records import curve, hold, lease_rows, losses, reap, result, rows, save, write_all

from hpo.spec.study_spec import StudySpec
from hpo.store import leases, results, studies, workers
from hpo.store.connection import Storage
from hpo.store.leases import Lease
from hpo.store.records import TrialRecord
from hpo.store.results import TrialOutcome
from hpo.study.create import create
from hpo.study.packs import SUSPECT_LOSSES
from hpo.study.study import Study
from hpo.values.objective import LOSS

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    """Three waiting trials of one batch size."""
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 3}), "test").study


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


def test_hold_renews_a_lease_by_the_seconds_of_its_grant(storage: Storage, study: Study) -> None:
    (first_trial,) = claim(storage, study, "search", "one", 1, lease_seconds=1000)
    (second_trial,) = claim(storage, study, "search", "two", 1)
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() + interval '1 second'"))
    assert hold(storage, first_trial) == {first_trial.lease.trial_id}
    remaining = {trial_id: row.remaining.total_seconds() for trial_id, row in lease_rows(storage).items()}
    assert 900 < remaining[first_trial.lease.trial_id] <= 1000
    assert remaining[second_trial.lease.trial_id] <= 1


def test_hold_of_no_or_unknown_leases_holds_nothing(storage: Storage, study: Study) -> None:
    assert hold(storage) == set()
    with storage.transaction() as connection:
        assert leases.hold(connection, [Lease(1, 1), Lease(999, 2)]) == set()


def test_an_expired_lease_that_nobody_took_is_renewed(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() - interval '1 second'"))
    assert hold(storage, trial) == {trial.lease.trial_id}
    assert lease_rows(storage)[trial.lease.trial_id].remaining.total_seconds() > 20
    assert [t.number for t in claim(storage, study, "search", "two", 3)] == [1, 2]


def test_a_takeover_fences_off_the_former_owner(storage: Storage, study: Study) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire_leases(storage)
    (new,) = claim(storage, study, "search", "new", 1)
    assert old.lease.trial_id == new.lease.trial_id
    assert hold(storage, old) == set()
    assert hold(storage, new) == {new.lease.trial_id}


def test_a_former_owner_can_write_nothing(storage: Storage, study: Study) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire_leases(storage)
    (new,) = claim(storage, study, "search", "new", 1)
    before = lease_rows(storage)[new.lease.trial_id]
    with storage.transaction() as connection:
        assert write_all(connection, old) == set()
        leases.release(connection, [old.lease])
    row = rows(storage, study)[0]
    assert (row.state, row.value, curve(storage, study, new)) == (TrialState.RUNNING, None, {})
    assert row.record == TrialRecord(old.seed, takeovers=1)
    assert lease_rows(storage)[new.lease.trial_id].expires == before.expires


def test_a_write_during_a_takeover_is_refused(
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
        assert leases.hold(connection, [lease for lease, _ in new.values()]) == set(ids)


def test_a_takeover_waits_for_a_write_in_progress(
    storage: Storage, study: Study, until_blocked: Callable[[], None]
) -> None:
    """A claim that does not look whether the lease is overdue still waits for the writer."""
    (old,) = claim(storage, study, "search", "old", 1)

    def take() -> None:
        with storage.transaction() as connection:
            leases.grant(connection, [old.lease.trial_id], "new", 30)

    taker = threading.Thread(target=take)
    with storage.transaction() as connection:
        assert leases.hold(connection, [old.lease])
        taker.start()
        until_blocked()
        results.report(connection, {old.lease.trial_id: result(1, 0.5)}, LOSS)
    taker.join(20)
    assert curve(storage, study, old) == {1: 0.5}
    assert hold(storage, old) == set()


def test_two_transactions_on_the_same_leases_do_not_deadlock(
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


def test_trials_of_a_forgotten_worker_are_claimable_at_once(storage: Storage, study: Study) -> None:
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


def test_reap_queues_expired_trials_of_its_study_alone(storage: Storage, study: Study, spec: SpecOf) -> None:
    lost = claim(storage, study, "search", "dead", 2)
    (kept,) = claim(storage, study, "search", "alive", 1)
    other_study = create(storage, spec(name="other"), "test").study
    claim(storage, other_study, "search", "dead", 1)
    assert reap(storage, study) == []
    expire_leases(storage, "dead")
    assert reap(storage, study) == sorted(trial.lease.trial_id for trial in lost)
    assert [row.state.name for row in rows(storage, study)] == ["WAITING", "WAITING", "RUNNING"]
    workers = {trial_id: row.worker for trial_id, row in lease_rows(storage).items()}
    assert [workers[trial.lease.trial_id] for trial in (*lost, kept)] == [None, None, "alive"]
    assert reap(storage, study) == []
    assert len(reap(storage, other_study)) == 1


def test_a_reaped_worker_holds_nothing_before_a_takeover(storage: Storage, study: Study) -> None:
    (old,) = claim(storage, study, "search", "old", 1)
    expire_leases(storage)
    reap(storage, study)
    with storage.transaction() as connection:
        assert write_all(connection, old) == set()
        leases.release(connection, [old.lease])
    row = rows(storage, study)[0]
    assert (row.state, row.value, curve(storage, study, old)) == (TrialState.WAITING, None, {})
    assert lease_rows(storage)[old.lease.trial_id].remaining.total_seconds() < 0


def test_a_hold_during_a_reap_fails(
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


def test_reap_skips_a_worker_that_is_writing(storage: Storage, study: Study) -> None:
    (writing,) = claim(storage, study, "search", "late", 1)
    silent = claim(storage, study, "search", "dead", 2)
    expire_leases(storage)
    with storage.transaction() as connection:
        assert leases.hold(connection, [writing.lease])
        assert reap(storage, study) == [trial.lease.trial_id for trial in silent]
        results.report(connection, {writing.lease.trial_id: result(1, 0.5)}, LOSS)
    assert curve(storage, study, writing) == {1: 0.5}


def test_leases_get_their_full_time_after_a_server_start(storage: Storage, study: Study) -> None:
    """The server of the tests has been up for less than an hour, and for more than no time."""
    (patient,) = claim(storage, study, "search", "patient", 1, lease_seconds=3600)
    (hasty,) = claim(storage, study, "search", "hasty", 1, lease_seconds=0)
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() - interval '1 second'"))
    assert reap(storage, study) == [hasty.lease.trial_id]
    assert hold(storage, patient, hasty) == {patient.lease.trial_id}


def test_the_lease_of_a_forgotten_worker_expires_at_once(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "dead", 1, lease_seconds=3600)
    with storage.transaction() as connection:
        workers.forget(connection, "dead")
    assert reap(storage, study) == [trial.lease.trial_id]


def test_a_worker_forgotten_too_early_renews_its_lease(storage: Storage, study: Study) -> None:
    (trial,) = claim(storage, study, "search", "one", 1)
    with storage.transaction() as connection:
        workers.forget(connection, "one")
    assert hold(storage, trial) == {trial.lease.trial_id}
    assert reap(storage, study) == []


def test_losses_in_a_row_end_with_a_new_checkpoint(storage: Storage, study: Study) -> None:
    loss_counts = []
    for epoch in (None, None, 3, None, 5, 6):
        (trial,) = claim(storage, study, "search", "victim", 1)
        if epoch is not None:
            save(storage, trial, epoch)
        expire_leases(storage)
        assert reap(storage, study) == [trial.lease.trial_id]
        loss_counts.append(losses(storage, trial))
    assert loss_counts == [1, 2, 1, 2, 1, 1]


def test_a_released_trial_is_not_a_loss(storage: Storage, study: Study) -> None:
    for _ in range(3):
        (trial,) = claim(storage, study, "search", "one", 1)
        with storage.transaction() as connection:
            leases.release(connection, [trial.lease])
    assert losses(storage, trial) == 0
    assert reap(storage, study) == []


def test_a_checkpoint_before_a_release_resets_the_losses(storage: Storage, study: Study) -> None:
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


def test_any_lost_sees_begun_trials_without_a_live_worker(storage: Storage, study: Study) -> None:
    def any_lost() -> bool:
        with storage.transaction() as connection:
            return leases.any_lost(connection, study.search_id, SUSPECT_LOSSES)

    assert not any_lost()  # nobody has begun
    (trial,) = claim(storage, study, "search", "one", 1, lease_seconds=3600)
    assert not any_lost()
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() - interval '1 second'"))
    assert not any_lost()  # the server has just started
    expire_leases(storage)
    assert any_lost()
    reap(storage, study)
    assert any_lost()
    (trial,) = claim(storage, study, "search", "two", 1)
    assert not any_lost()
    with storage.transaction() as connection:
        leases.release(connection, [trial.lease])
    assert any_lost()
    (trial,) = claim(storage, study, "search", "three", 1)
    with storage.transaction() as connection:
        results.finish(connection, {trial.lease.trial_id: TrialOutcome(TrialState.COMPLETE, 0.5)})
    assert not any_lost()


def test_two_reaps_do_not_wait_for_each_other(storage: Storage, study: Study) -> None:
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
