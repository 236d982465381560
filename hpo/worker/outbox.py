"""Deliver writes to the storage in order, on a thread, so that training goes on while the storage is away."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from types import TracebackType

from hpo.errors import UnavailableError
from hpo.store.retry import Backoff, until_available

log = logging.getLogger("hpo.worker")

BACKOFF = Backoff(longest=1.0)
"""Short waits, so that a worker that ends does not miss a server that has come back."""

CLOSE_SECONDS = 1.0
"""How long closing waits for a call that is under way. The driver notices a dead server late."""


class Outbox:
    """A queue of deliveries. Each is tried until the storage answers, then the next one follows.

    Any exception of a delivery but `UnavailableError` ends the outbox. Every later call raises it.
    """

    def __init__(self, backoff: Backoff = BACKOFF) -> None:
        self._backoff = backoff
        self._queue: deque[Callable[[], None]] = deque()
        # Nanoseconds: higher than the numbers of an earlier process with the same worker name.
        self._numbers = count(time.time_ns())
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
        """Give up everything that is undelivered."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)

    @property
    def reachable(self) -> bool:
        """Whether the last attempt reached the storage."""
        return not self._failing

    @property
    def is_delivered(self) -> bool:
        """Whether nothing waits for delivery."""
        with self._changed:
            self._raise()
            return not self._queue

    def next_number(self) -> int:
        """Return a rising number for a delivery, by which the storage recognises a second attempt."""
        return next(self._numbers)

    def post(self, delivery: Callable[[], None]) -> None:
        with self._changed:
            self._raise()
            self._queue.append(delivery)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait for all deliveries, but not while the storage is away; return whether all are delivered.

        A storage that gives no answer within `seconds` counts as away until it answers.
        """
        with self._changed:
            delivered = self._wait_for(lambda: not self._queue or self._failing, seconds)
            if not delivered:
                self._failing = True
        return delivered

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for all deliveries, also in an outage; return whether all are delivered."""
        return self._wait_for(lambda: not self._queue, seconds)

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or condition(), seconds)
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
                until_available(partial(self._attempt, delivery), self._closed, log, self._backoff)
            except UnavailableError:
                return  # closed while the storage was away
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
