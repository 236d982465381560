"""Leases and the worker's entry, kept alive by a thread."""

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
from hpo.study.create import create
from hpo.study.schedule import LeasedTrial
from hpo.study.status import status
from hpo.study.study import Study
from hpo.worker.lease_renewal import LeaseRenewal, WorkerEntry

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
    """The trials whose lease has run out, by id."""
    with storage.transaction() as connection:
        query = "SELECT trial_id FROM hpo.lease WHERE expires <= now() ORDER BY trial_id"
        return list(connection.execute(text(query)).scalars())


def expire_and_renew(storage: Storage, renewing: LeaseRenewal, trials: list[LeasedTrial]) -> list[int]:
    """The trials that one renewal of `trials` leaves overdue."""
    expire(storage)
    with renewing.renewing(lambda: [trial.lease for trial in trials]):
        renewing.renew()
    return overdue(storage)


def test_a_worker_is_listed_while_it_serves(storage: Storage, study: Study) -> None:
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


def test_a_worker_that_fell_silent_is_not_listed(storage: Storage, study: Study) -> None:
    with renewal(storage, study) as renewing:
        renewing.renew()
        with storage.transaction() as connection:
            connection.execute(text("UPDATE hpo.worker SET expires = now() - interval '1 second'"))
        assert status(storage, study).workers == ()
        renewing.renew()
        assert [worker.name for worker in status(storage, study).workers] == ["one"]


def test_an_entry_lasts_as_long_as_a_lease(storage: Storage, study: Study) -> None:
    renewal(storage, study, lease_seconds=1000).renew()
    with storage.transaction() as connection:
        remaining = connection.execute(text("SELECT expires - now() FROM hpo.worker")).scalar_one()
    assert 900 < remaining.total_seconds() <= 1000


def test_a_name_that_comes_back_serves_its_new_study(storage: Storage, study: Study, spec: SpecOf) -> None:
    """In a container, host and process id are the same each time; the entry of a killed worker stays."""
    renewal(storage, study, "host-7", "cpu").renew()
    other = create(storage, spec(name="other"), "test").study
    renewal(storage, other, "host-7", "cuda:0").renew()
    assert status(storage, study).workers == ()
    assert [(w.name, w.device) for w in status(storage, other).workers] == [("host-7", "cuda:0")]


def test_it_renews_the_leases_it_is_told_and_no_other(storage: Storage, study: Study) -> None:
    one, two = claim(storage, study, "search", "one", 2)
    with renewal(storage, study) as renewing:
        assert expire_and_renew(storage, renewing, [one, two]) == []
        assert expire_and_renew(storage, renewing, [one]) == [two.lease.trial_id]
        expire(storage)
        renewing.renew()  # outside of `of`
        assert overdue(storage) == [one.lease.trial_id, two.lease.trial_id]


def test_it_renews_the_leases_that_there_are_at_the_time(storage: Storage, study: Study) -> None:
    one, two = claim(storage, study, "search", "one", 2)
    held = [one.lease]
    with (
        renewal(storage, study) as renewing,
        renewing.renewing(lambda: held),
    ):
        held.append(two.lease)
        expire(storage)
        renewing.renew()
        assert overdue(storage) == []


def test_it_does_not_take_back_what_was_lost(storage: Storage, study: Study) -> None:
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
def test_the_thread_goes_on_after_failures(
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


def test_it_ends_while_the_storage_is_away(
    storage: Storage, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def fail(*_arguments: object) -> set[int]:
        asked.set()
        raise UnavailableError("it is gone")

    monkeypatch.setattr(leases, "hold", fail)
    with LeaseRenewal(storage, WorkerEntry("one", study.name, "cpu"), 0.01, first_wait=1000):
        assert asked.wait(20)


def test_the_first_renewal_is_not_the_thread_s(storage: Storage, study: Study) -> None:
    """It belongs to the caller, who may wait for it or fail with it."""
    with renewal(storage, study, lease_seconds=1000):
        assert status(storage, study).workers == ()
