"""Delivers to the storage in order, on a thread, so that training need not wait while the storage is away."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from types import TracebackType

from hpo.errors import UnavailableError
from hpo.store.retry import Backoff, until_available

log = logging.getLogger("hpo.worker")

BACKOFF = Backoff(longest=1.0)
"""Waits are short, so that a worker that ends does not miss a server that has come back."""

LAST_SECONDS = 1.0
"""How long the end waits for a thread that is asking: a server that is gone takes its time to be missed."""


class Outbox:
    """A queue of deliveries. Each is tried until the storage answers, then comes the next.

    A delivery that raises anything else than `UnavailableError` ends the outbox; the next call raises it.
    """

    def __init__(self, backoff: Backoff = BACKOFF) -> None:
        self._backoff = backoff
        self._queue: deque[Callable[[], None]] = deque()
        self._numbers = count(time.time_ns())  # higher than those of a former process of this name
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._error: BaseException | None = None
        self._failing = False
        self._thread = threading.Thread(target=self._deliver_until_closed, name="outbox", daemon=True)

    def __enter__(self) -> "Outbox":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What is not delivered by now is given up."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
        self._thread.join(LAST_SECONDS)

    @property
    def reachable(self) -> bool:
        """Whether the last attempt came through."""
        return not self._failing

    def next_number(self) -> int:
        """A number for a delivery, by which the storage can tell that it has been made: they rise."""
        return next(self._numbers)

    def post(self, delivery: Callable[[], None]) -> None:
        with self._changed:
            self._raise()
            self._queue.append(delivery)
            self._changed.notify_all()

    def settle(self, seconds: float) -> bool:
        """Waits at most so long until all is delivered, and no longer once the storage cannot be reached;
        whether it is delivered."""
        with self._changed:
            settled = self._wait_for(lambda: not self._queue or self._failing, seconds)
            if not settled:
                self._failing = True  # also a server that says nothing is away, until it answers
        return settled

    def wait(self, seconds: float) -> bool:
        """Waits at most so long until all is delivered; whether it is."""
        return self._wait_for(lambda: not self._queue, seconds)

    def _wait_for(self, reached: Callable[[], bool], seconds: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or reached(), seconds)
            self._raise()
            return not self._queue

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _deliver_until_closed(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed.is_set())
                if self._closed.is_set():
                    return
                delivery = self._queue[0]
            try:
                until_available(lambda: self._attempt(delivery), self._closed, log, self._backoff)  # noqa: B023
            except UnavailableError:
                return  # it was closed meanwhile
            except BaseException as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._queue.popleft()
                self._changed.notify_all()

    def _attempt(self, delivery: Callable[[], None]) -> None:
        try:
            delivery()
        except UnavailableError:
            with self._changed:
                self._failing = True
                self._changed.notify_all()
            raise
        with self._changed:
            self._failing = False
