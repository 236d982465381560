"""Waiting for a storage that cannot be reached. Nothing here sleeps: the event that would says it did."""

import logging
import threading
from collections.abc import Callable

import pytest

from hpo.errors import StorageError, UnavailableError
from hpo.store.retry import Backoff, until_available

log = logging.getLogger("test")


class Stop(threading.Event):
    """Notes how long it was to wait, and is set once it has waited `most` times."""

    def __init__(self, most: int = 10_000) -> None:
        super().__init__()
        self.most, self.waits = most, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        if len(self.waits) == self.most:
            self.set()
        return self.is_set()


def failing(times: int, error: Callable[[str], Exception] = UnavailableError) -> Callable[[], int]:
    """Raises so often, each time with its number, then gives the number of calls."""
    calls = 0

    def call() -> int:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise error(f"failure {calls}")
        return calls

    return call


def test_what_succeeds_at_once_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    stop = Stop()
    assert until_available(failing(0), stop, log) == 1
    assert stop.waits == []
    assert caplog.messages == []


def test_it_tries_until_the_storage_answers(caplog: pytest.LogCaptureFixture) -> None:
    stop = Stop()
    assert until_available(failing(40), stop, log) == 41
    assert len(stop.waits) == 40
    assert caplog.messages == ["waiting for the storage: failure 1", "the storage answers again"]


@pytest.mark.parametrize("longest", [Backoff().longest, 0.5])
def test_waits_grow_up_to_a_bound(longest: float) -> None:
    stop = Stop()
    until_available(failing(200), stop, log, Backoff(longest=longest))
    for index, wait in enumerate(stop.waits):
        assert 0 <= wait <= min(longest, Backoff().first * 2**index)
    assert max(stop.waits) > longest / 2
    assert len(set(stop.waits[10:])) > 100  # drawn at random, or a fleet would come back all at once


def test_it_stops_on_the_event_and_raises_the_last_failure(caplog: pytest.LogCaptureFixture) -> None:
    stop = Stop(most=3)
    with pytest.raises(UnavailableError, match=r"^failure 4$"):
        until_available(failing(1000), stop, log)
    assert len(stop.waits) == 3
    assert caplog.messages == ["waiting for the storage: failure 1"]


def test_who_is_told_to_stop_tries_once() -> None:
    stop = Stop()
    stop.set()
    assert until_available(failing(0), stop, log) == 1
    with pytest.raises(UnavailableError, match="failure 1"):
        until_available(failing(1000), stop, log)
    assert stop.waits == []


@pytest.mark.parametrize("error", [StorageError, ValueError, KeyboardInterrupt])
def test_other_errors_go_through_at_once(error: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    stop = Stop()
    with pytest.raises(error, match="failure 1"):
        until_available(failing(1, error), stop, log)
    assert stop.waits == []
    assert caplog.messages == []


def test_another_error_after_a_failure_goes_through() -> None:
    errors = iter([UnavailableError("away"), StorageError("refused")])

    def call() -> None:
        raise next(errors)

    with pytest.raises(StorageError, match="refused"):
        until_available(call, Stop(), log)
