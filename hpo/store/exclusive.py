"""A lock by name, held across transactions, so that two processes do not do the same work."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from hpo.store.connection import Storage

POLL_SECONDS = 0.5
"""Pause between two tries. A statement that waits for the lock could not be interrupted."""


@contextmanager
def exclusive(storage: Storage, name: str, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Hold the lock of this name during the block. Waits while another process or thread holds it.

    The lock ends with the connection to the server, so a block may go on without it after an outage. It saves
    work and guards nothing. Raises `UnavailableError` and `StorageError` as `Storage.transaction` does, but
    for the errors of the block.
    """
    key = {"key": f"hpo:exclusive:{name}"}
    with storage.session() as connection:
        while not connection.execute(_TRY, key).scalar_one():
            sleep(POLL_SECONDS)
        try:
            yield
        finally:
            with suppress(DBAPIError):  # the connection is lost, and the lock with it
                connection.execute(_UNLOCK, key)


_TRY = text("SELECT pg_try_advisory_lock(hashtextextended(:key, 0))")
_UNLOCK = text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))")
