"""Opens Postgres: the one a URL names, or an embedded server; makes the tables; lends out connections."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psycopg2
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import CreateSchema

from hpo.errors import StorageError, UnavailableError
from hpo.settings import Settings
from hpo.store import schema
from hpo.store.server import start_server
from hpo.store.url import parse_url

SET_UP_LOCK = 0x68706F  # "hpo": the advisory lock that serialises the making of tables

SILENCE_MS = 60_000
"""How long a transaction may say nothing before the server ends it; TPE thinks for a second or two."""

REST_SECONDS = 1.0
"""A connection that was used within so long a time is taken to be alive."""

REFUSALS = ("does not exist", "authentication failed", "no password supplied", "pg_hba.conf")
"""What a server says to those that it will never let in."""

ENGINE_OPTIONS: dict[str, Any] = {
    # One connection a process and, while Optuna reads beside our own transaction, a second one.
    "pool_size": 1,
    "max_overflow": 2,
    "connect_args": {
        "application_name": "hpo",
        "connect_timeout": 10,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,  # ms: a statement does not wait for a server that is gone
    },
}


@dataclass(frozen=True)
class Storage:
    """An opened storage. `engine` is this process's only connection pool; Optuna uses it too.

    `home`: the folder of the embedded server, None for a server of the user's. `lock_seconds`: how long a
    transaction waits for a lock before it counts as unavailable; 0 means for ever.
    """

    url: URL
    engine: Engine
    backend: RDBStorage
    home: Path | None = None
    lock_seconds: float = 0.0

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back on any error.

        Raises `UnavailableError` when the database cannot be reached or ended the transaction for a
        reason that may pass, `StorageError` when it refuses a statement.
        """
        try:
            with self.engine.begin() as connection:
                session = connection.info  # lives as long as the connection to the server
                is_new = session.get("lock_seconds", 0.0) != self.lock_seconds
                if is_new:
                    connection.execute(text(f"SET lock_timeout = {int(1000 * self.lock_seconds)}"))
                yield connection
            if is_new:  # a rollback would have undone it
                session["lock_seconds"] = self.lock_seconds
        except (DBAPIError, NoFreeConnection) as error:
            if not _may_pass(error):
                raise StorageError(_one_line(self.url, error)) from error
            if self.home is not None:
                # Nobody else looks after it; the caller's next try will find it.
                with suppress(StorageError):
                    start_server(self.home)
            raise UnavailableError(_one_line(self.url, error)) from error

    def study(self, name: str) -> optuna.Study:
        """The study as Optuna shows it, for reading. Raises `KeyError` if there is none."""
        return optuna.load_study(study_name=name, storage=self.backend)


def open_storage(settings: Settings) -> Storage:
    """Opens the storage of the settings and makes what tables it lacks.

    Any number of processes may do so at once on an empty database. Raises `InputError`, `StorageError`.
    """
    url = parse_url(settings)
    if url is not None:
        return open_url(url)
    return open_url(start_server(settings.server_path), settings.server_path)


def open_url(url: URL, home: Path | None = None) -> Storage:
    try:
        _set_up(url)
        text_url = url.render_as_string(hide_password=False)
        storage = RDBStorage(text_url, engine_kwargs=_engine_options(url), skip_table_creation=True)
        _watch_idle(storage.engine)
        revision = storage.get_current_version()
    except (
        DBAPIError,
        StorageInternalError,
        RuntimeError,
    ) as error:  # RuntimeError: tables of another Optuna
        kind = UnavailableError if _may_pass(error) else StorageError
        raise kind(_one_line(url, error)) from error
    if revision != schema.OPTUNA_REVISION:
        raise StorageError(
            f"{url.render_as_string()}: its Optuna tables are of revision {revision}; "
            f"this version works with {schema.OPTUNA_REVISION}"
        )
    return Storage(url, storage.engine, storage, home)


def _engine_options(url: URL) -> dict[str, Any]:
    # A machine that vanishes inside a transaction must not keep its locks: the server would notice the dead
    # connection after hours. Asked for with the connection, it costs no statement.
    asked = url.query.get("options", ())
    options = [asked] if isinstance(asked, str) else [*asked]
    options.append(f"-c idle_in_transaction_session_timeout={SILENCE_MS}")
    connecting = {**ENGINE_OPTIONS["connect_args"], "options": " ".join(options)}
    return {**ENGINE_OPTIONS, "connect_args": connecting}


def _watch_idle(engine: Engine) -> None:
    """A connection that died while idle (restart, firewall) is replaced instead of failing a transaction.

    SQLAlchemy's `pool_pre_ping` asks before each transaction; here only after a rest.
    """

    def rest(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["resting_since"] = time.monotonic()

    def wake(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("resting_since", math.inf) < REST_SECONDS:
            return
        try:
            alive = engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error
        if not alive:
            raise DisconnectionError

    event.listen(engine, "checkin", rest)
    event.listen(engine, "checkout", wake)


def _set_up(url: URL) -> None:
    engine = create_engine(url, connect_args=_engine_options(url)["connect_args"])
    try:
        with engine.connect() as connection:
            if _is_set_up(connection):
                return
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": SET_UP_LOCK})
            if not _is_set_up(connection):
                # Optuna makes its tables on a connection of its own; the lock keeps the others out.
                RDBStorage(url.render_as_string(hide_password=False)).engine.dispose()
                connection.execute(CreateSchema("hpo", if_not_exists=True))
                # Those of revision 1 hold nothing that lasts: their trials count as overdue.
                connection.execute(text("DROP TABLE IF EXISTS hpo.lease, hpo.worker"))
                schema.metadata.create_all(connection)
                connection.execute(text(f"COMMENT ON SCHEMA hpo IS '{schema.REVISION}'"))
                connection.commit()
    finally:
        engine.dispose()


def _is_set_up(connection: Connection) -> bool:
    """Raises `StorageError` if the tables are those of a later version of this service."""
    query = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'hpo'"
    revision = connection.execute(text(query)).scalar()
    if revision not in (None, "1", schema.REVISION):
        raise StorageError(
            f"{connection.engine.url.render_as_string()}: its schema hpo is of revision {revision}; "
            f"this version works with {schema.REVISION}"
        )
    return revision == schema.REVISION


def _may_pass(error: BaseException) -> bool:
    """Whether another try may succeed: connections refused, cut or used up, deadlocks, a server that shuts
    down, recovers, stands by, or has no room left."""
    if isinstance(error, NoFreeConnection):
        return True
    while not isinstance(error, DBAPIError):  # Optuna wraps it
        if error.__cause__ is None:
            return False
        error = error.__cause__
    passing = (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.InternalError)
    if not error.connection_invalidated and not isinstance(error.orig, passing):
        return False
    # A connection that is refused for good has no code that would tell, only words.
    return not any(words in str(error.orig) for words in REFUSALS)


def _one_line(url: URL, error: BaseException) -> str:
    """What went wrong in the driver's words: SQLAlchemy's and Optuna's around them do not help."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{url.render_as_string()}: {' '.join(str(error).split()) or type(error).__name__}"
