import threading
from dataclasses import replace

import pytest

from hpo.errors import StorageError, UnavailableError
from hpo.store.retry import Backoff
from hpo.worker.overhead import OverheadClock
from hpo.worker.runtime import Runtime, WorkerLimits
from hpo.worker.storage_calls import StorageCalls

LIMITS = WorkerLimits(poll_seconds=0.001, deliver_seconds=30.0, query_backoff=Backoff(1e-6, 1e-6))


def storage_calls(runtime: Runtime) -> StorageCalls:
    return StorageCalls(runtime, OverheadClock(lambda: 0.0))


def test_call_is_retried_until_the_storage_answers() -> None:
    attempts = iter(range(10))

    def query() -> int:
        attempt = next(attempts)
        if attempt < 3:
            raise UnavailableError("it is away")
        return attempt

    assert storage_calls(Runtime(limits=LIMITS)).call(query) == 3


def test_refusal_is_raised() -> None:
    def refuse() -> None:
        raise StorageError("no such column")

    with pytest.raises(StorageError, match="no such column"):
        storage_calls(Runtime(limits=LIMITS)).call(refuse)


def test_stop_ends_the_wait_for_a_storage_that_is_away() -> None:
    stop = threading.Event()

    def query() -> None:
        stop.set()
        raise UnavailableError("it is away")

    with pytest.raises(UnavailableError, match="it is away"):
        storage_calls(Runtime(stop=stop, limits=LIMITS)).call(query)


def test_stop_ends_the_wait_for_a_storage_that_is_silent() -> None:
    stop, silent = threading.Event(), threading.Event()

    def query() -> None:
        stop.set()
        silent.wait(30)

    runtime = Runtime(stop=stop, limits=replace(LIMITS, deliver_seconds=0.001))
    with pytest.raises(UnavailableError, match="told to stop while the storage did not answer"):
        storage_calls(runtime).call(query)
    silent.set()


def test_answer_that_comes_soon_after_the_stop_is_returned() -> None:
    stop = threading.Event()

    def query() -> str:
        stop.set()
        return "answer"

    assert storage_calls(Runtime(stop=stop, limits=LIMITS)).call(query) == "answer"
