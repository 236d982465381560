"""Many rows in one statement, whose text does not depend on how many: so it is compiled once."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert


def insertion(table: Table, rows: Sequence[Mapping[str, Any]]) -> Insert:
    """Inserts rows, which all have the same columns and of which there is at least one."""
    columns = [table.c[name] for name in rows[0]]
    unnested = []
    for column in columns:
        kind = ARRAY(column.type)
        values = bindparam(None, [row[column.name] for row in rows], kind)
        unnested.append(func.unnest(cast(values, kind)).label(column.name))
    return insert(table).from_select(list(rows[0]), select(*unnested))
