"""Waiting for a storage that cannot be reached."""

import logging
import threading
from collections.abc import Callable
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

FIRST_WAIT, LONGEST_WAIT = 0.25, 5.0
"""Seconds. The waits double between them, and each is drawn at random below its bound, so that a fleet does
not come back all at once."""


class _Outage:
    """Whether the storage is away, as far as this process knows: its threads say so once, not each."""

    def __init__(self) -> None:
        self._lock, self._is_on = threading.Lock(), False

    def has_begun(self) -> bool:
        with self._lock:
            before, self._is_on = self._is_on, True
        return not before

    def has_ended(self) -> bool:
        with self._lock:
            before, self._is_on = self._is_on, False
        return before


_outage = _Outage()


def until_available(
    call: Callable[[], T],
    stop: threading.Event,
    log: logging.Logger,
    longest_wait: float = LONGEST_WAIT,
) -> T:
    """What `call` gives, tried again with growing waits for as long as the storage cannot be reached.

    The first failure in this process is logged, and the success that ends it. Raises the last
    `UnavailableError` once `stop` is set, and whatever else `call` raises at once.
    """

    def say(state: RetryCallState) -> None:
        if state.outcome is not None and _outage.has_begun():
            log.warning("waiting for the storage: %s", state.outcome.exception())

    attempts = Retrying(
        retry=retry_if_exception_type(UnavailableError),
        wait=wait_random_exponential(multiplier=FIRST_WAIT, max=longest_wait),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=say,
        reraise=True,
    )
    value = attempts(call)
    if _outage.has_ended():
        log.warning("the storage answers again")
    return value
