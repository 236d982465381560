"""Leases and the worker's entry, kept alive by a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from hpo import ledger, renewal
from hpo.claim import LeasedTrial, claim
from hpo.errors import StorageError
from hpo.renewal import Renewal
from hpo.spec import StudySpec
from hpo.status import status
from hpo.storage import Storage
from hpo.study import Study, create

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    return create(storage, spec(space={"batch_size": 16}, search={"trials": 2}), "test").study


def expire(storage: Storage) -> None:
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.lease SET expires = now() - interval '1 second'"))


def overdue(storage: Storage, study: Study) -> list[int]:
    with storage.transaction() as connection:
        return ledger.overdue(connection, study.search_id)


def expire_and_renew(
    storage: Storage, study: Study, renewing: Renewal, trials: list[LeasedTrial]
) -> list[int]:
    """The trials that one renewal of `trials` leaves overdue."""
    expire(storage)
    with renewing.of([trial.lease for trial in trials]):
        renewing.renew()
    return overdue(storage, study)


def test_a_worker_is_listed_while_it_serves(storage: Storage, study: Study) -> None:
    with Renewal(storage, study, "one", "cuda:0"):
        trials = claim(storage, study, "search", "one", 2)
        (worker,) = status(storage, study).workers
        assert (worker.name, worker.device, worker.running) == ("one", "cuda:0", len(trials))
    assert status(storage, study).workers == ()


def test_a_worker_that_fell_silent_is_not_listed(storage: Storage, study: Study) -> None:
    with Renewal(storage, study, "one", "cpu") as renewing:
        with storage.transaction() as connection:
            connection.execute(text("UPDATE hpo.worker SET seen = now() - interval '1 hour'"))
        assert status(storage, study).workers == ()
        renewing.renew()
        assert [worker.name for worker in status(storage, study).workers] == ["one"]


def test_a_name_that_comes_back_serves_its_new_study(storage: Storage, study: Study, spec: SpecOf) -> None:
    """In a container, host and process id are the same each time; the entry of a killed worker stays."""
    Renewal(storage, study, "host-7", "cpu").renew()
    other = create(storage, spec(name="other"), "test").study
    with Renewal(storage, other, "host-7", "cuda:0"):
        assert status(storage, study).workers == ()
        assert [(w.name, w.device) for w in status(storage, other).workers] == [("host-7", "cuda:0")]


def test_it_renews_the_leases_it_is_told_and_no_other(storage: Storage, study: Study) -> None:
    one, two = claim(storage, study, "search", "one", 2)
    with Renewal(storage, study, "one", "cpu") as renewing:
        assert expire_and_renew(storage, study, renewing, [one, two]) == []
        assert expire_and_renew(storage, study, renewing, [one]) == [two.lease.trial_id]
        expire(storage)
        renewing.renew()  # outside of `of`
        assert overdue(storage, study) == [one.lease.trial_id, two.lease.trial_id]


def test_it_does_not_take_back_what_was_lost(storage: Storage, study: Study) -> None:
    old = claim(storage, study, "search", "one", 2)
    expire(storage)
    new = claim(storage, study, "search", "two", 2)
    with Renewal(storage, study, "one", "cpu") as renewing:
        left = expire_and_renew(storage, study, renewing, old)
        assert left == [trial.lease.trial_id for trial in new]


def test_the_thread_goes_on_after_a_failure(
    storage: Storage, study: Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One failure of the database must not end the renewing for good."""
    monkeypatch.setattr(renewal, "RENEW_SECONDS", 0)
    calls, renewed = iter(range(100_000)), threading.Event()
    real = ledger.hold

    def fail_twice(*arguments: object) -> set[int]:
        call = next(calls)
        if call in (1, 2):  # the first one is at the start, in the worker's own thread
            raise StorageError("the server restarts")
        if call > 2:
            renewed.set()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "hold", fail_twice)
    with Renewal(storage, study, "one", "cpu"):
        assert renewed.wait(20)
    assert caplog.text.count("leases not renewed: the server restarts") == 2


def test_a_worker_does_not_start_where_it_cannot_renew(
    storage: Storage, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> set[int]:
        raise StorageError("the server is gone")

    monkeypatch.setattr(ledger, "hold", fail)
    with pytest.raises(StorageError), Renewal(storage, study, "one", "cpu"):
        pass
    assert status(storage, study).workers == ()
