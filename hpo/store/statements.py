"""Server-side prepared statements, written as SQL.

A trial takes a few dozen small statements. Building, parsing and planning their text takes longer than
reading or writing the rows. So each connection prepares a statement once, and then sends its name and values.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult

_HEAD = re.compile(r"\s*PREPARE (?P<name>\w+) \((?P<types>[^)]*)\) AS\s")

registered: dict[str, "Statement"] = {}
"""All statements of this process, by name."""


class Statement:
    """A prepared statement. Call it with a connection and one value for each parameter.

    `text` is the command that prepares the statement, `PREPARE name (type, ...) AS ...` with `$1` for the
    first parameter. A reader can paste it into psql and run `EXPLAIN EXECUTE name (...)`. A list becomes an
    array. Values of enumerations are strings, in parameters and in results. Raises `ValueError` for a text of
    another form, and for a name that is taken.
    """

    def __init__(self, text: str) -> None:
        head = _HEAD.match(text)
        if head is None:
            raise ValueError("the text must begin with 'PREPARE name (type, ...) AS'")
        if head["name"] in registered:
            raise ValueError(f"there are two statements {head['name']!r}")
        self.name, self.text = head["name"], text.strip()
        self.types = tuple(kind.strip() for kind in head["types"].split(","))
        # An array of strings is text[] to the server, and a list of nothing but None has no type at all.
        parameters = ", ".join(f"%s::{kind}" for kind in self.types)
        self._execute = f"EXECUTE {self.name} ({parameters})"
        registered[self.name] = self

    def __call__(self, connection: Connection, *values: Any) -> CursorResult[*tuple[Any, ...]]:
        prepared: set[str] = connection.info.setdefault("prepared", set())  # as old as the connection
        if self.name not in prepared:
            connection.exec_driver_sql(self.text.replace("%", "%%"))  # the driver formats it
            prepared.add(self.name)
        return connection.exec_driver_sql(self._execute, values)


def columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Turn rows of `width` values into one list per column, for statements that take arrays.

    A statement for many rows has the same text for any number of them, so it is prepared once.
    """
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
