"""Keeps a worker's leases, and its entry among the workers, alive while it trains."""

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
from hpo.store.retry import Backoff, until_available
from hpo.study.study import Study
from hpo.worker.outbox import LAST_SECONDS

log = logging.getLogger("hpo.worker")

RENEWALS = 4
"""So often in the time of a lease it is renewed: one or two renewals may fail."""


class Renewal:
    """A thread that renews the leases in `of` for as long as the context is open, whatever the storage does.

    The first renewal is the caller's, before the context is opened.
    """

    def __init__(
        self,
        storage: Storage,
        study: Study,
        worker: str,
        device: str,
        lease_seconds: float = LEASE_SECONDS,
        first_wait: float = Backoff().first,
    ) -> None:
        self._storage, self._study, self._worker, self._device = storage, study, worker, device
        self._lease_seconds, self._first_wait = lease_seconds, first_wait
        self._leases: Callable[[], Iterable[Lease]] = tuple
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_closed, name="renewal", daemon=True)

    def __enter__(self) -> "Renewal":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join(LAST_SECONDS)

    @contextmanager
    def of(self, leases: Callable[[], Iterable[Lease]]) -> Iterator[None]:
        """The leases that `leases` gives at the time are renewed inside the block; lost ones stay lost."""
        self._leases = leases
        try:
            yield
        finally:
            self._leases = tuple

    def renew(self) -> None:
        with self._storage.transaction() as connection:
            leases.hold(connection, self._leases())  # in the order of `workers.forget`
            workers.register(connection, self._worker, self._study.name, self._device, self._lease_seconds)

    def _renew_until_closed(self) -> None:
        pause = self._lease_seconds / RENEWALS
        while not self._closed.wait(pause):
            try:
                until_available(self.renew, self._closed, log, Backoff(self._first_wait, pause))
            except UnavailableError:
                break  # it was closed meanwhile
            except Exception:
                log.exception("the leases of %s were not renewed", self._worker)
        # Here, where nobody waits for a storage that does not answer: the entry expires by itself.
        with suppress(StorageError), self._storage.transaction() as connection:
            workers.dismiss(connection, self._worker)
