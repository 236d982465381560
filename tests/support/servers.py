"""Uses of the embedded server that several processes make."""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from hpo.errors import HpoError
from hpo.store.server.embedded import start_server
from hpo.store.server.running import find_server


def ask(url: URL, statement: str) -> list[str]:
    """Execute a statement in a new connection, and return the first column of its rows."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        return [str(row[0]) for row in result] if result.returns_rows else []


def add_row(folder: Path, name: str) -> str:
    """Start or find the server of `folder` and add a row. Return `served`, or why there is no row."""
    try:
        url = start_server(folder)
        ask(url, "CREATE TABLE IF NOT EXISTS visit (name text)")
        ask(url, f"INSERT INTO visit VALUES ('{name}')")
    except HpoError as error:
        return str(error)
    except OperationalError:
        return "cut"  # the server ended with its PID namespace
    return "served"


def server_pid(folder: Path) -> int:
    """Return the PID of the server's main process."""
    server = find_server(folder)
    assert server is not None
    assert server.pid is not None
    return server.pid


if __name__ == "__main__":
    print(add_row(Path(sys.argv[1]), sys.argv[2]))  # noqa: T201
