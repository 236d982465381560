"""Keeps a worker's leases, and its entry among the workers, alive while it trains."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert

from hpo import ledger, schema
from hpo.claim import LEASE_SECONDS, RENEW_SECONDS
from hpo.errors import StorageError
from hpo.ledger import Lease
from hpo.storage import Storage
from hpo.study import Study

log = logging.getLogger("hpo.worker")


class Renewal:
    """A thread that renews the leases in `of` every `RENEW_SECONDS`, for as long as the context is open."""

    def __init__(self, storage: Storage, study: Study, worker: str, device: str) -> None:
        self._storage, self._study, self._worker, self._device = storage, study, worker, device
        self._leases: tuple[Lease, ...] = ()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_closed, name="renewal", daemon=True)

    def __enter__(self) -> "Renewal":
        self.renew()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        with self._storage.transaction() as connection:
            connection.execute(delete(schema.workers).where(schema.workers.c.name == self._worker))

    @contextmanager
    def of(self, leases: Sequence[Lease]) -> Iterator[None]:
        """These leases are renewed inside the block. One that is finished or lost meanwhile stays so."""
        self._leases = tuple(leases)
        try:
            yield
        finally:
            self._leases = ()

    def renew(self) -> None:
        table = schema.workers
        # A name may come back with another study: in a container, host and process id stay the same.
        entry = {"study": self._study.name, "device": self._device, "seen": func.now()}
        statement = insert(table).values(name=self._worker, **entry)
        with self._storage.transaction() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=[table.c.name], set_=entry))
            ledger.hold(connection, self._leases, LEASE_SECONDS)

    def _renew_until_closed(self) -> None:
        while not self._closed.wait(RENEW_SECONDS):
            try:
                self.renew()
            except StorageError as error:
                # The next round tries again; the leases last for three of them.
                log.warning("leases not renewed: %s", error)
