"""Connections to Postgres, the one that a URL names or an embedded server, and transactions."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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

from hpo.errors import HpoError, StorageError, UnavailableError, one_line
from hpo.settings import Settings
from hpo.store import schema
from hpo.store.migrate import migrate
from hpo.store.pooling import check_pooling
from hpo.store.server import Limits as ServerLimits
from hpo.store.server import start_server
from hpo.store.url import parse_url

UNSUPPORTED_OPTIONS = "unsupported startup parameter"
"""What PgBouncer says of the options of a connection that it does not know."""

REFUSALS = (
    "does not exist",
    "authentication failed",
    "no password supplied",
    "pg_hba.conf",
    UNSUPPORTED_OPTIONS,
)
"""Parts of the server's messages to clients that it will never let in."""

RECOVERY = "the database system is"
"""Begins the messages of a server that starts, recovers or shuts down."""

RECOVERY_PAUSE = 0.5
"""Seconds between two looks at an embedded server that recovers."""

EMBEDDED_TRIES = 5
"""Attempts to open an embedded server that does not say that it recovers."""

RESTART = ServerLimits(patience=10.0)
"""How long a transaction that failed waits for the embedded server. The caller tries again anyway."""

log = logging.getLogger(__name__)

ENGINE_OPTIONS: dict[str, Any] = {
    # One connection per process and, while Optuna reads beside our own transaction, a second one.
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


@dataclass(frozen=True, slots=True)
class Limits:
    """How long connections and transactions wait, in seconds."""

    silence: float = 60.0
    """The server ends a transaction after this much idle time. TPE needs a second or two to suggest."""

    rest: float = 1.0
    """A connection that was idle for less counts as alive. After a longer idle time it is pinged first."""

    lock: float = 0.0
    """A transaction that waits longer for a lock raises `UnavailableError`. 0: no limit."""


@dataclass(frozen=True)
class Storage:
    """An opened storage. `engine` is this process's only connection pool, and Optuna uses it too.

    `home` is the folder of the embedded server, None for a server of the user's.
    """

    url: URL
    engine: Engine
    backend: RDBStorage
    home: Path | None = None
    limits: Limits = Limits()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction. It commits at the end of the block, and rolls back on any error.

        Raises `UnavailableError` when the database cannot be reached, or ended the transaction for a reason
        that may pass. Raises `StorageError` when the database refuses a statement.
        """
        with self._translated():
            with self.engine.begin() as connection:
                session = connection.info  # lives as long as the connection to the server
                is_new = session.get("lock", 0.0) != self.limits.lock
                if is_new:
                    connection.execute(text(f"SET lock_timeout = {int(1000 * self.limits.lock)}"))
                yield connection
            if is_new:  # not before the commit, since a rollback undoes the setting
                session["lock"] = self.limits.lock

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Open a connection on which each statement commits. Raises as `transaction` does."""
        with self._translated(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise the driver's errors of the block as `UnavailableError` or `StorageError`."""
        try:
            yield
        except (DBAPIError, NoFreeConnection) as error:
            if not _may_pass(error):
                raise StorageError(_one_line(self.url, error)) from error
            if self.home is not None:
                # Nobody else restarts the embedded server. The caller's next try will find it.
                with suppress(HpoError):
                    start_server(self.home, RESTART)
            raise UnavailableError(_one_line(self.url, error)) from error

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a transaction that only reads. All its statements see the same state, as a `transaction`
        does not."""
        with self.transaction() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield connection

    def with_lock_limit(self, seconds: float) -> "Storage":
        """Return this storage with another limit on waits for locks. Both share the connection pool."""
        return replace(self, limits=replace(self.limits, lock=seconds))

    def study(self, name: str) -> optuna.Study:
        """Return the study as Optuna shows it, for reading. Raises `KeyError` if there is none."""
        return optuna.load_study(study_name=name, storage=self.backend)


def open_storage(settings: Settings, *, read_only: bool = False) -> Storage:
    """Open the storage of the settings, and make or migrate its tables.

    Any number of processes may do so at once on an empty database. A storage that is `read_only` cannot
    write: the server refuses it. Raises `InputError` and `StorageError`.
    """
    url = parse_url(settings)
    if url is not None:
        try:
            return open_url(url, read_only=read_only)
        except StorageError as error:
            raise type(error)(f"HPO_STORAGE_URL: {error}") from error
    return _open_embedded(settings.server_path, read_only)


def open_url(
    url: URL, home: Path | None = None, limits: Limits = Limits(), *, read_only: bool = False
) -> Storage:
    """Open the storage at `url`, as `open_storage` does. `home` is the folder of an embedded server."""
    try:
        _set_up(url, limits, is_embedded=home is not None)
        text_url = url.render_as_string(hide_password=False)
        options = _engine_options(url, limits, read_only)
        storage = RDBStorage(text_url, engine_kwargs=options, skip_table_creation=True)
        _ping_after_rest(storage.engine, limits.rest)
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
    return Storage(url, storage.engine, storage, home, limits)


def _open_embedded(folder: Path, read_only: bool) -> Storage:
    """Start the embedded server and open its storage. Waits while the server recovers after a crash."""
    told, failures = False, 0
    while True:
        try:
            return open_url(start_server(folder), folder, read_only=read_only)
        except UnavailableError as error:
            recovers = RECOVERY in str(error)
            failures += not recovers  # the server ended after it was found; the next try starts it
            if failures == EMBEDDED_TRIES:
                raise
            if recovers and not told:
                told = True
                log.warning("the embedded PostgreSQL in %s is recovering; waiting", folder)
            time.sleep(RECOVERY_PAUSE)


def _engine_options(url: URL, limits: Limits, read_only: bool = False) -> dict[str, Any]:
    # A machine that vanishes inside a transaction must not keep its locks. The server would notice the dead
    # connection after hours. As an option of the connection, the time-out costs no statement.
    given = url.query.get("options", ())
    options = [given] if isinstance(given, str) else [*given]
    options.append(f"-c idle_in_transaction_session_timeout={int(1000 * limits.silence)}")
    if read_only:
        options.append("-c default_transaction_read_only=on")
    connect_args = {**ENGINE_OPTIONS["connect_args"], "options": " ".join(options)}
    return {**ENGINE_OPTIONS, "connect_args": connect_args}


def _ping_after_rest(engine: Engine, rest: float) -> None:
    """Replace a connection that died while idle (restart, firewall) instead of failing a transaction.

    SQLAlchemy's `pool_pre_ping` asks before each transaction, this only after `rest` seconds without use.
    """

    def check_in(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["resting_since"] = time.monotonic()

    def check_out(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("resting_since", math.inf) < rest:
            return
        try:
            alive = engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error
        if not alive:
            raise DisconnectionError

    event.listen(engine, "checkin", check_in)
    event.listen(engine, "checkout", check_out)


def _set_up(url: URL, limits: Limits, is_embedded: bool) -> None:
    engine = create_engine(url, connect_args=_engine_options(url, limits)["connect_args"])
    try:
        if not is_embedded:
            with engine.connect() as first, engine.connect() as second:
                check_pooling(first, second)
        with engine.connect() as connection:
            migrate(connection, url)
    finally:
        engine.dispose()


def _may_pass(error: BaseException) -> bool:
    """Return whether another try may succeed.

    True if a connection was refused, cut, or not free, after a deadlock, and while a server shuts down,
    recovers, is a standby, or has no room left.
    """
    if isinstance(error, NoFreeConnection):
        return True
    while not isinstance(error, DBAPIError):  # Optuna wraps it
        if error.__cause__ is None:
            return False
        error = error.__cause__
    passing = (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.InternalError)
    if not error.connection_invalidated and not isinstance(error.orig, passing):
        return False
    # A connection that is refused for good has no error code, only words.
    return not any(words in str(error.orig) for words in REFUSALS)


def _one_line(url: URL, error: BaseException) -> str:
    """Return the URL and the driver's message, without the text that SQLAlchemy and Optuna add."""
    while error.__cause__ is not None:
        error = error.__cause__
    message = one_line(error)
    advice = "; PgBouncer needs ignore_startup_parameters = options" if UNSUPPORTED_OPTIONS in message else ""
    return f"{url.render_as_string()}: {message}{advice}"
