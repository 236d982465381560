"""Numbered migrations of the schema `hpo`.

The comment of the schema is its revision: the number of the last migration that was applied. The files
`migrations/NNNN_name.sql` lead from each revision to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from optuna.storages import RDBStorage
from sqlalchemy import URL, Connection, text

from hpo.errors import StorageError

SET_UP_LOCK = 0x68706F  # "hpo": the advisory lock under which tables are made


@dataclass(frozen=True, slots=True)
class Migration:
    """The statements that lead from revision `revision - 1` to `revision`."""

    revision: int
    sql: str


def _load() -> tuple[Migration, ...]:
    folder = resources.files("hpo.store") / "migrations"
    files = sorted((file.name, file) for file in folder.iterdir() if file.name.endswith(".sql"))
    return tuple(Migration(int(name.split("_")[0]), file.read_text("utf-8")) for name, file in files)


MIGRATIONS = _load()


def migrate(connection: Connection, url: URL, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Make the tables that a database lacks, Optuna's and those of the schema `hpo`.

    Any number of processes may do so at once. Each migration is one transaction. The lock is held until the
    connection closes. Raises `StorageError` if the schema is newer than the migrations, or of a revision that
    they do not know.
    """
    if _revision(connection, migrations) == migrations[-1].revision:
        return
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": SET_UP_LOCK})
    present = _revision(connection, migrations)
    if present == migrations[-1].revision:
        return
    # Optuna makes its tables on a connection of its own. The lock keeps other processes out meanwhile.
    RDBStorage(url.render_as_string(hide_password=False)).engine.dispose()
    for migration in migrations:
        if migration.revision > present:
            connection.exec_driver_sql(migration.sql.replace("%", "%%"))  # the driver formats it
            connection.execute(text(f"COMMENT ON SCHEMA hpo IS '{migration.revision}'"))
            connection.commit()


def _revision(connection: Connection, migrations: Sequence[Migration]) -> int:
    """Return the revision of the schema, 0 if it has none. Raises `StorageError` if it is not known."""
    query = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'hpo'"
    comment = connection.execute(text(query)).scalar()
    revisions = {str(migration.revision): migration.revision for migration in migrations}
    if comment is None:
        return 0
    if comment not in revisions:
        raise StorageError(
            f"{connection.engine.url.render_as_string()}: its schema hpo is of revision {comment}; "
            f"this version works with {migrations[-1].revision}"
        )
    return revisions[comment]
