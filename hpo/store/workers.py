"""The worker processes, each with its study and device, and the time until which it counts as alive.

Every function is one step of the caller's transaction. None commits.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from hpo.store import leases
from hpo.store.statements import Statement


@dataclass(frozen=True, slots=True)
class WorkerEntry:
    """A worker as the database lists it."""

    name: str
    study: str
    device: str


def register(connection: Connection, entry: WorkerEntry, seconds: float, quiet: float | None = None) -> None:
    """Record that a worker is alive, for the next `seconds`.

    `quiet`: the seconds since the last epoch of its pack, None without a pack.
    """
    values = {"name": entry.name, "study": entry.study, "device": entry.device}
    connection.execute(_REGISTER, {**values, "seconds": seconds, "quiet": quiet})


_REGISTER = text("""
-- A name may come back with another study: in a container, host and process id stay the same.
INSERT INTO hpo.worker (name, study, device, expires, quiet_since)
VALUES (:name, :study, :device, now() + make_interval(secs => :seconds),
    now() - make_interval(secs => CAST(:quiet AS double precision)))
ON CONFLICT (name) DO UPDATE SET study = excluded.study, device = excluded.device, expires = excluded.expires,
    quiet_since = excluded.quiet_since
""")


def count(connection: Connection, study: str) -> tuple[int, int]:
    """Return the number of live workers of a study, and the number of them without a trial."""
    workers, idle = COUNT_WORKERS(connection, study).one()
    return workers, idle


COUNT_WORKERS = Statement("""
PREPARE count_workers (text) AS
-- Count the live workers of study $1, and those of them without a trial.
-- NOT IN is a hashed subquery. EXISTS would scan the leases for each worker.
SELECT count(*), count(*) FILTER (
    WHERE name NOT IN (SELECT lease.worker FROM hpo.lease WHERE lease.worker IS NOT NULL)
)
FROM hpo.worker
WHERE study = $1 AND expires > now()
""")


def read(connection: Connection, study: str) -> list[tuple[str, str, int, float | None]]:
    """Return the live workers of a study by name: name, device, number of leased trials, and quiet seconds.

    The last are the seconds since the last epoch of the worker's pack, None without a pack.
    """
    rows = connection.execute(_READ, {"study": study})
    return [(row.name, row.device, row.running, row.quiet if row.running else None) for row in rows]


_READ = text("""
SELECT worker.name, worker.device, count(lease.trial_id) AS running,
    CAST(extract(epoch FROM now() - worker.quiet_since) AS double precision) AS quiet
FROM hpo.worker LEFT JOIN hpo.lease ON lease.worker = worker.name
WHERE worker.study = :study AND worker.expires > now()
GROUP BY worker.name
ORDER BY worker.name
""")


def delete(connection: Connection, study: str) -> None:
    """Delete the entries of a study's workers."""
    connection.execute(_DELETE, {"study": study})


_DELETE = text("DELETE FROM hpo.worker WHERE study = :study")


def forget(connection: Connection, worker: str) -> None:
    """End the leases of a worker that is known to be dead, and delete its entry."""
    leases.expire(connection, worker)
    dismiss(connection, worker)


def dismiss(connection: Connection, *ended: str) -> None:
    """Delete the entries of workers that have ended, and of all that were silent for too long.

    A worker that is alive after all registers again.
    """
    names = connection.execute(_DISMISS, {"ended": list(ended)}).scalars()
    connection.execute(_FORGET_DELIVERIES, {"names": [*names, *ended]})


_DISMISS = text("DELETE FROM hpo.worker WHERE name = ANY (:ended) OR expires <= now() RETURNING name")
_FORGET_DELIVERIES = text("DELETE FROM hpo.delivery WHERE worker = ANY (:names)")
