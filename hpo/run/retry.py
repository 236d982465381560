"""Retries of the steps between trainings: one waits for the storage, the other for the artifact folder."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from hpo.errors import AwayError
from hpo.store.retry import until_available

log = logging.getLogger("hpo.launch")

T = TypeVar("T")

AWAY_SECONDS = 60.0
"""Time that the export waits for the folder with the weights."""


def until_storage_answers(call: Callable[[], T]) -> T:
    """Return the result of `call`, called again while the storage cannot be reached."""
    return until_available(call, threading.Event(), log)


def until_readable(
    call: Callable[[], T], seconds: float = AWAY_SECONDS, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Return the result of `call`, called again each second while it raises `AwayError`.

    The weights of a trial existed when the trial ended, so a missing folder is likely to come back. Raises
    the last `AwayError` after `seconds`.
    """

    def log_first_failure(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("waiting for the weights: %s", state.outcome.exception())

    return Retrying(
        retry=retry_if_exception_type(AwayError),
        wait=wait_fixed(1),
        stop=stop_after_delay(seconds),
        before_sleep=log_first_failure,
        sleep=sleep,
        reraise=True,
    )(call)
