"""The wait for a server that other processes run, and the messages during the wait."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import StorageError, UnavailableError
from hpo.store.server.account import OTHERWISE
from hpo.store.server.lock import Owner
from hpo.store.server.running import Server

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, and the clock that measures them.

    patience    longest wait for a server that starts or recovers
    notice      wait before a line in the log says what the caller waits for
    silence     longest silence of processes that hold the lock. A server notices within a minute that its
                data folder was deleted
    elsewhere   longest silence of processes in another machine or namespace
    """

    patience: float = math.inf
    notice: float = 5.0
    silence: float = 75.0
    elsewhere: float = 10.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


LIMITS = Limits()


class Waiting:
    """The wait for a server that other processes run."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._begin = limits.clock()
        self._answered = self._begin
        self._told = False
        self._pause = 0.01

    def step(self, server: Server | None, owner: Owner | None) -> None:
        """Sleep briefly. Raises `StorageError` once waiting is hopeless, or after `patience` seconds."""
        now, limits = self._limits.clock(), self._limits
        if server is not None or (owner is not None and owner.is_here() and owner.is_at_work()):
            self._answered = now
        here = owner is None or owner.is_here()
        if now - self._answered > (limits.silence if here else limits.elsewhere):
            raise StorageError(unreachable(self._folder, owner))
        if now - self._begin > limits.patience:
            raise UnavailableError(f"the embedded PostgreSQL in {self._folder} is recovering")
        if now - self._begin > limits.notice and not self._told:
            self._told = True
            what = "does not answer yet" if server is None else "is recovering"
            log.warning("the embedded PostgreSQL in %s %s; waiting", self._folder, what)
        limits.sleep(self._pause)
        self._pause = min(2 * self._pause, 0.2)


def unreachable(folder: Path, owner: Owner | None) -> str:
    """Return why processes that hold the lock of `folder` cannot be used, and what to do."""
    if owner is not None and not owner.is_here():
        return (
            f"the embedded PostgreSQL in {folder} is run by {owner}, and cannot be reached from here: "
            "run hpo there, or set HPO_STORAGE_URL to a PostgreSQL server that both can reach"
        )
    if owner is not None and owner.is_at_work():
        return f"process {owner.pid} is starting the embedded PostgreSQL in {folder}; try again"
    return (
        f"the embedded PostgreSQL in {folder} does not answer, and its processes hold the lock on its files: "
        f"end them, {OTHERWISE}"
    )
