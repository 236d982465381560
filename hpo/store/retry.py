"""Retry calls to a storage that cannot be reached."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from hpo.errors import UnavailableError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Bounds in seconds of the waits between attempts.

    The bound of the first wait is `first`. It doubles with each attempt, up to `longest`. Each wait is drawn
    at random below its bound, so that a fleet does not come back all at once.
    """

    first: float = 0.25
    longest: float = 5.0


BACKOFF = Backoff()


class _Outage:
    """Whether this process has found the storage away. The threads of a process log an outage once."""

    def __init__(self) -> None:
        self._lock, self._is_on = threading.Lock(), False

    def begin(self) -> bool:
        """Note an outage; return whether it is new."""
        with self._lock:
            was_on, self._is_on = self._is_on, True
        return not was_on

    def end(self) -> bool:
        """Note the end of an outage; return whether there was one."""
        with self._lock:
            was_on, self._is_on = self._is_on, False
        return was_on


_outage = _Outage()


def until_available(
    call: Callable[[], T],
    stop: threading.Event,
    log: logging.Logger,
    backoff: Backoff = Backoff(),
) -> T:
    """Return the result of `call`, retried for as long as the storage cannot be reached.

    Of an outage, this process logs the first failure and the success that ends it. Raises the last
    `UnavailableError` once `stop` is set. Any other exception of `call` is raised at once.
    """

    def log_outage(state: RetryCallState) -> None:
        if state.outcome is not None and _outage.begin():
            log.warning("waiting for the storage: %s", state.outcome.exception())

    attempts = Retrying(
        retry=retry_if_exception_type(UnavailableError),
        wait=wait_random_exponential(multiplier=backoff.first, max=backoff.longest),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=log_outage,
        reraise=True,
    )
    value = attempts(call)
    if _outage.end():
        log.warning("the storage answers again")
    return value
