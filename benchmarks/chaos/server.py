"""A private PostgreSQL server that can be restarted, crashed and stopped."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from sqlalchemy import URL, Connection, NullPool, create_engine, text

from hpo.errors import StorageError
from hpo.store.server.cluster import Cluster, ServerProcess

STARTS = 50
"""Attempts to start the server. Others may take its port, and processes of a killed one hold its memory."""

PAUSE_SECONDS = 0.1
"""The wait before another attempt."""

END_SECONDS = 60.0
"""How long the server may take to stop."""

Shutdown = Literal["fast", "immediate"]
"""PostgreSQL's modes. Both cut all connections. After `immediate`, the server has to recover as after a loss
of power."""

SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Server:
    """A server on 127.0.0.1 with its data in `folder` and Postgres's default durability."""

    def __init__(self, folder: Path) -> None:
        self._cluster = Cluster.of(folder)
        if not self._cluster.exists:
            self._cluster.create()
            (folder / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
        self._port: int | None = None
        self._started: ServerProcess | None = None

    def start(self) -> None:
        """Start on a free port the first time, and on the same port from then on."""
        for _ in range(STARTS - 1):
            with suppress(StorageError):
                return self._start()
            time.sleep(PAUSE_SECONDS)
        return self._start()

    def _start(self) -> None:
        port = self._port or free_port()
        # Without a folder for sockets, the server makes no socket file.
        listening = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
        started = self._cluster.start(listening)
        while not started.is_ready:
            time.sleep(0.01)
        self._started, self._port = started, port

    def stop(self, mode: Shutdown = "fast") -> None:
        """Stop the server if it runs."""
        if self._started is not None:
            self._started.process.send_signal(SIGNALS[mode])
            self._started.process.wait(END_SECONDS)
            self._started = None

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


def free_port() -> int:
    """Return a port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Yield a running server with its data in `folder`, and stop it after the block."""
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop("immediate")


@contextmanager
def connection(url: URL) -> Iterator[Connection]:
    """Yield a new connection in autocommit mode. A kept connection could be cut by a fault."""
    arguments = {"connect_timeout": 10, "application_name": "chaos"}
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
    with engine.connect() as opened:
        yield opened
