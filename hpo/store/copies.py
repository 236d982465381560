"""Copies."""

import json
from collections.abc import Sequence

from sqlalchemy import Connection, Integer, column, insert, literal, select, values
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo.store import schema
from hpo.store.trials import TrialRow, set_points
from hpo.values.space import Point, SearchSpace


def copy_ended(
    connection: Connection, study_id: int, space: SearchSpace, trials: Sequence[tuple[TrialRow, Point]]
) -> None:
    """Adds copies of ended trials, at points of `space`, with their values, curves, epochs and attributes.

    The study must be new: they are its first trials, numbered in the order given. `forked_from` is the number
    of the original.
    """
    if not trials:
        return
    table = schema.trials
    pair = values(column("number", Integer), column("origin", Integer), name="pair").data(
        [(number, row.trial_id) for number, (row, _) in enumerate(trials)]
    )
    connection.execute(
        insert(table).from_select(
            ["study_id", "number", "state", "datetime_start", "datetime_complete"],
            select(
                literal(study_id),
                pair.c.number,
                table.c.state,
                table.c.datetime_start,
                table.c.datetime_complete,
            ).join_from(pair, table, table.c.trial_id == pair.c.origin),
        )
    )
    numbered = select(table.c.trial_id).where(table.c.study_id == study_id).order_by(table.c.number)
    ids = list(connection.execute(numbered).scalars())
    set_points(connection, space, {i: point for i, (_, point) in zip(ids, trials, strict=True)})
    copy = table.alias("copy")
    attribute = schema.trial_attributes
    for results in (attribute, schema.trial_values, schema.intermediate_values, schema.epochs):
        kept = [c for c in results.c if c.name != "trial_id" and c is not results.autoincrement_column]
        connection.execute(
            insert(results).from_select(
                ["trial_id", *(c.name for c in kept)],
                select(copy.c.trial_id, *kept)
                .join_from(pair, copy, (copy.c.study_id == study_id) & (copy.c.number == pair.c.number))
                .join(results, results.c.trial_id == pair.c.origin),
            )
        )
    # Set last: what is copied from a fork has one already.
    statement = upsert(attribute)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[attribute.c.trial_id, attribute.c.key],
            set_={"value_json": statement.excluded.value_json},
        ),
        [
            {"trial_id": trial_id, "key": "forked_from", "value_json": json.dumps(row.number)}
            for trial_id, (row, _) in zip(ids, trials, strict=True)
        ],
    )
