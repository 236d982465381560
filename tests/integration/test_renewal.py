"""The thread that renews leases and the worker's entry."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text
from support.claims import claim

from hpo.errors import StorageError, UnavailableError
from hpo.settings import LEASE_SECONDS
from hpo.spec.study_spec import StudySpec
from hpo.store import costs, leases, workers
from hpo.store.connection import Storage
from hpo.store.workers import WorkerEntry
from hpo.study.create import create
from hpo.study.schedule import LeasedTrial
from hpo.study.status import status
from hpo.study.study import Study
from hpo.worker.lease_renewal import LeaseRenewal

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 2}), "test").study


def renewal(
    storage: Storage,
    study: Study,
    worker: str = "one",
    device: str = "cpu",
    lease_seconds: float = LEASE_SECONDS,
) -> LeaseRenewal:
    return LeaseRenewal(storage, WorkerEntry(worker, study.name, device), lease_seconds)


def expire(storage: Storage) -> None:
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() - interval '1 second'"))


def overdue(storage: Storage) -> list[int]:
    """Return the ids of the trials whose lease has expired."""
    with storage.transaction() as connection:
        query = "SELECT trial_id FROM hpo.lease WHERE expires <= now() ORDER BY trial_id"
        return list(connection.execute(text(query)).scalars())


def expire_and_renew(storage: Storage, renewing: LeaseRenewal, trials: list[LeasedTrial]) -> list[int]:
    """Return the ids of the trials that are overdue after one renewal of `trials`."""
    expire(storage)
    with renewing.renewing(lambda: [trial.lease for trial in trials]):
        renewing.renew()
    return overdue(storage)


def test_worker_is_listed_while_it_runs(storage: Storage, study: Study) -> None:
    renewing = renewal(storage, study, "one", "cuda:0")
    renewing.renew()
    with renewing:
        trials = claim(storage, study, "search", "one", 2)
        (worker,) = status(storage, study).workers
        assert (worker.name, worker.device, worker.running) == ("one", "cuda:0", len(trials))
        with storage.transaction() as connection:
            assert costs.record_delivery(connection, "one", 1)
    assert status(storage, study).workers == ()
    with storage.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM hpo.delivery")).scalar_one() == 0


def test_silent_worker_is_not_listed(storage: Storage, study: Study) -> None:
    with renewal(storage, study) as renewing:
        renewing.renew()
        with storage.transaction() as connection:
            connection.execute(text("UPDATE hpo.worker SET expires = now() - interval '1 second'"))
        assert status(storage, study).workers == ()
        renewing.renew()
        assert [worker.name for worker in status(storage, study).workers] == ["one"]


def test_entry_lasts_as_long_as_a_lease(storage: Storage, study: Study) -> None:
    renewal(storage, study, lease_seconds=1000).renew()
    with storage.transaction() as connection:
        remaining = connection.execute(text("SELECT expires - now() FROM hpo.worker")).scalar_one()
    assert 900 < remaining.total_seconds() <= 1000


def test_reused_worker_name_is_listed_with_its_new_study(
    storage: Storage, study: Study, spec: SpecOf
) -> None:
    """In a container, host and process id stay the same, and the entry of a killed worker stays."""
    renewal(storage, study, "host-7", "cpu").renew()
    other = create(storage, spec(name="other"), "test").study
    renewal(storage, other, "host-7", "cuda:0").renew()
    assert status(storage, study).workers == ()
    assert [(w.name, w.device) for w in status(storage, other).workers] == [("host-7", "cuda:0")]


def test_only_the_given_leases_are_renewed(storage: Storage, study: Study) -> None:
    first, second = claim(storage, study, "search", "one", 2)
    with renewal(storage, study) as renewing:
        assert expire_and_renew(storage, renewing, [first, second]) == []
        assert expire_and_renew(storage, renewing, [first]) == [second.lease.trial_id]
        expire(storage)
        renewing.renew()  # outside of `of`
        assert overdue(storage) == [first.lease.trial_id, second.lease.trial_id]


def test_leases_added_inside_the_block_are_renewed(storage: Storage, study: Study) -> None:
    first, second = claim(storage, study, "search", "one", 2)
    held = [first.lease]
    with (
        renewal(storage, study) as renewing,
        renewing.renewing(lambda: held),
    ):
        held.append(second.lease)
        expire(storage)
        renewing.renew()
        assert overdue(storage) == []


def test_lost_leases_stay_lost(storage: Storage, study: Study) -> None:
    old = claim(storage, study, "search", "one", 2)
    with storage.transaction() as connection:
        workers.forget(connection, "one")
    new = claim(storage, study, "search", "two", 2)
    with renewal(storage, study) as renewing:
        left = expire_and_renew(storage, renewing, old)
        assert left == [trial.lease.trial_id for trial in new]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            UnavailableError("it restarts"),
            ["waiting for the storage: it restarts", "the storage answers again"],
        ),
        (StorageError("it refuses"), 2 * ["the leases of one were not renewed"]),
    ],
)
def test_renewal_continues_after_failures(
    storage: Storage,
    study: Study,
    error: StorageError,
    says: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls, renewed = iter(range(100_000)), threading.Event()
    real = leases.hold

    def fail_twice(*arguments: object) -> set[int]:
        call = next(calls)
        if call < 2:
            raise error
        if call > 2:  # the third one has come through
            renewed.set()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(leases, "hold", fail_twice)
    with renewal(storage, study, lease_seconds=0.01):
        assert renewed.wait(20)
    assert caplog.messages == says


def test_renewal_ends_during_an_outage(
    storage: Storage, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def fail(*_arguments: object) -> set[int]:
        asked.set()
        raise UnavailableError("it is gone")

    monkeypatch.setattr(leases, "hold", fail)
    with LeaseRenewal(storage, WorkerEntry("one", study.name, "cpu"), 0.01, first_wait=1000):
        assert asked.wait(20)


def test_thread_leaves_the_first_renewal_to_the_caller(storage: Storage, study: Study) -> None:
    """The caller may wait for the first renewal, or fail with it."""
    with renewal(storage, study, lease_seconds=1000):
        assert status(storage, study).workers == ()
