"""Renew a worker's leases, and its entry among the workers, while it trains."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from hpo.errors import StorageError, UnavailableError
from hpo.settings import LEASE_SECONDS
from hpo.store import leases, workers
from hpo.store.connection import Storage
from hpo.store.leases import Lease
from hpo.store.retry import BACKOFF, Backoff, until_available
from hpo.store.workers import WorkerEntry
from hpo.worker.epoch_watch import EpochWatch
from hpo.worker.outbox import CLOSE_SECONDS

log = logging.getLogger("hpo.worker")

RENEWALS = 4
"""Renewals within the duration of one lease, so that one or two of them may fail."""


class LeaseRenewal:
    """A thread that renews leases while the context is open, and retries while the storage is away.

    The caller makes the first renewal before it opens the context, so that it can wait for the renewal or
    fail with it. `watch` knows since when the worker has shown no epoch: the entry tells it to others, and
    the thread logs it. `first_wait`: the bound in seconds of the first wait after a failed renewal.
    """

    def __init__(
        self,
        storage: Storage,
        entry: WorkerEntry,
        lease_seconds: float = LEASE_SECONDS,
        watch: EpochWatch | None = None,
        first_wait: float = BACKOFF.first,
    ) -> None:
        self._storage, self._entry, self._watch = storage, entry, watch or EpochWatch()
        self._lease_seconds, self._first_wait = lease_seconds, first_wait
        self._leases: Callable[[], Iterable[Lease]] = tuple
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_closed, name="renewal", daemon=True)

    def __enter__(self) -> "LeaseRenewal":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join(CLOSE_SECONDS)

    @contextmanager
    def renewing(self, current: Callable[[], Iterable[Lease]]) -> Iterator[None]:
        """Inside the block, renew the leases that `current` returns at the time. Lost leases stay lost."""
        self._leases = current
        try:
            yield
        finally:
            self._leases = tuple

    def renew(self) -> None:
        entry = self._entry
        with self._storage.transaction() as connection:
            leases.hold(connection, self._leases())  # leases first, as `workers.forget` locks them
            workers.register(connection, entry, self._lease_seconds, self._watch.quiet_seconds)

    def _renew_until_closed(self) -> None:
        pause = self._lease_seconds / RENEWALS
        while not self._closed.wait(pause):
            self._watch.log_if_quiet()
            try:
                until_available(self.renew, self._closed, log, Backoff(self._first_wait, pause))
            except UnavailableError:
                break  # closed while the storage was away
            except Exception:
                log.exception("the leases of %s were not renewed", self._entry.name)
        # On this thread, so that no other thread waits for a silent storage. The entry also expires.
        with suppress(StorageError), self._storage.transaction() as connection:
            workers.dismiss(connection, self._entry.name)
