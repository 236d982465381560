"""Many rows in one statement, whose text does not depend on how many: so it is built and compiled once."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Select, Table, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert


def rows_of(*columns: Column[Any]) -> Select[Any]:
    """Rows that are told when the statement is carried out: of each column an array (`arrays`)."""
    return select(*(func.unnest(bindparam(_key(c.name), type_=ARRAY(c.type))).label(c.name) for c in columns))


def insertion(table: Table, *columns: str) -> Insert:
    """Inserts such rows."""
    return insert(table).from_select(columns, rows_of(*(table.c[name] for name in columns)))


def arrays(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    """The rows, each in the order of the columns, as such a statement wants them."""
    told: dict[str, list[Any]] = {_key(name): [] for name in columns}
    for row in rows:
        for values, value in zip(told.values(), row, strict=True):
            values.append(value)
    return told


def _key(column: str) -> str:
    return f"{column}_array"  # one with the name of the column would be taken for a value of it
