"""Call the storage, and wait for an answer however long it is away."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from hpo.errors import UnavailableError
from hpo.store.retry import until_available
from hpo.worker.overhead import OverheadClock
from hpo.worker.runtime import Runtime

T = TypeVar("T")

log = logging.getLogger("hpo.worker")


class StorageCalls:
    """Calls on a separate thread: no signal is handled while the driver waits for a silent server."""

    def __init__(self, runtime: Runtime, overhead: OverheadClock) -> None:
        self._stop, self._limits, self._overhead = runtime.stop, runtime.limits, overhead

    def call(self, function: Callable[[], T]) -> T:
        """Return the result of `function`, retried while the storage is away.

        Raises `UnavailableError` if the worker has to stop before the storage answers.
        """
        answer: Future[T] = Future()

        def ask() -> None:
            try:
                answer.set_result(until_available(function, self._stop, log, self._limits.query_backoff))
            except BaseException as error:
                answer.set_exception(error)

        with self._overhead.database():
            threading.Thread(target=ask, name="question", daemon=True).start()
            while not wait([answer], self._limits.poll_seconds).done:
                if self._stop.is_set() and not wait([answer], self._limits.deliver_seconds).done:
                    raise UnavailableError("told to stop while the storage did not answer")
            return answer.result()
