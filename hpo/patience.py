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


def patiently(
    call: Callable[[], T],
    stop: threading.Event,
    log: logging.Logger,
    longest_wait: float = LONGEST_WAIT,
) -> T:
    """What `call` gives, tried again with growing waits for as long as the storage cannot be reached.

    The first failure is logged, and the success after it. Raises the last `UnavailableError` once `stop` is
    set, and whatever else `call` raises at once.
    """

    def say(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
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
    if attempts.statistics["attempt_number"] > 1:
        log.warning("the storage answers again")
    return value
