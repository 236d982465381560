"""Workers."""

from sqlalchemy import Connection, delete, func, or_, update

from hpo.store import schema
from hpo.store.leases import REVOKED, _lock


def forget(connection: Connection, worker: str) -> None:
    """Ends the leases of a worker that is known to be dead, and its entry among the workers."""
    table = schema.leases
    ids = _lock(connection, table.c.worker == worker)
    connection.execute(update(table).where(table.c.trial_id.in_(ids)).values(expires=REVOKED))
    dismiss(connection, worker)


def dismiss(connection: Connection, *ended: str) -> None:
    """Deletes the entries of workers that have ended, and of all that have not been heard of for too long.

    One of those that lives after all enters itself anew.
    """
    table = schema.workers
    gone = or_(table.c.name.in_(ended), table.c.expires <= func.now())
    names = connection.execute(delete(table).where(gone).returning(table.c.name)).scalars()
    connection.execute(delete(schema.deliveries).where(schema.deliveries.c.worker.in_([*names, *ended])))
