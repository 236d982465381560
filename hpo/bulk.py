"""Many rows in one statement, whose text does not depend on how many: so it is compiled once."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import CTE, Select, Table, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert


def insertion(table: Table, rows: Sequence[Mapping[str, Any]], present: CTE | None = None) -> Insert:
    """Inserts rows, which all have the same columns and of which there is at least one.

    With `present`, of one column, only those whose value of it is there, in the order of their columns.
    """
    columns = [table.c[name] for name in rows[0]]
    unnested = []
    for column in columns:
        kind = ARRAY(column.type)
        values = bindparam(None, [row[column.name] for row in rows], kind)
        unnested.append(func.unnest(cast(values, kind)).label(column.name))
    query: Select[Any] = select(*unnested)
    if present is not None:
        (key,) = present.c
        given = query.subquery("given")
        query = select(*given.c).where(given.c[key.name].in_(select(key))).order_by(*given.c)
    return insert(table).from_select(list(rows[0]), query)
