"""What device seconds were spent on: of each trial, and of a study's workers apart from its trials.

Every function takes the caller's open transaction and is one step of it; nothing here commits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import CTE, Connection, Table, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo import schema
from hpo.bulk import insertion


def is_new(connection: Connection, worker: str, number: int) -> bool:
    """Whether a delivery of the worker is not written yet; its numbers rise.

    A connection may die after a commit and before the answer, and then all of it is delivered again. What
    only adds up asks here first.
    """
    table = schema.deliveries
    statement = upsert(table).values(worker=worker, number=number)
    row = connection.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c.worker],
            set_={"number": statement.excluded.number},
            where=table.c.number < statement.excluded.number,
        ).returning(table.c.number)
    )
    return row.first() is not None


def charge(connection: Connection, seconds: Mapping[int, Mapping[str, float]]) -> None:
    """Adds device seconds, by trial id and activity; those of trials that were deleted are forgotten."""
    trial_id = schema.trials.c.trial_id
    present = (
        select(trial_id)
        .where(trial_id.in_(list(seconds)))
        .order_by(trial_id)
        .with_for_update(read=True, key_share=True)
        .cte("present")
    )
    _add(
        connection,
        schema.costs,
        [
            {"trial_id": trial, "activity": activity, "seconds": spent}
            for trial, its in seconds.items()
            for activity, spent in its.items()
        ],
        present,
    )


def charge_study(connection: Connection, study_id: int, seconds: Mapping[str, float]) -> None:
    """Adds device seconds of a study that belong to no trial, by activity; nothing if it was deleted."""
    table = schema.studies
    query = select(table.c.study_id).where(table.c.study_id == study_id)
    if connection.execute(query.with_for_update(read=True, key_share=True)).first() is None:
        return
    _add(
        connection,
        schema.overheads,
        [
            {"study_id": study_id, "activity": activity, "seconds": spent}
            for activity, spent in sorted(seconds.items())
        ],
    )


def _add(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], present: CTE | None = None
) -> None:
    if not rows:
        return
    # In one order everywhere, so that two that add to the same ones cannot deadlock.
    statement = insertion(table, rows, present)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_={"seconds": table.c.seconds + statement.excluded.seconds},
        )
    )


def device_seconds(connection: Connection, study_id: int) -> dict[str, float]:
    """Device seconds of a study by activity: of its trials, and those that belong to no trial."""
    cost, overhead, trial = schema.costs, schema.overheads, schema.trials
    of_trials = select(cost.c.activity, cost.c.seconds).join_from(cost, trial)
    of_none = select(overhead.c.activity, overhead.c.seconds)
    spent = (
        of_trials.where(trial.c.study_id == study_id)
        .union_all(of_none.where(overhead.c.study_id == study_id))
        .subquery()
    )
    query = select(spent.c.activity, func.sum(spent.c.seconds).label("seconds")).group_by(spent.c.activity)
    return {row.activity: row.seconds for row in connection.execute(query)}


def trial_seconds(connection: Connection, study_id: int) -> dict[int, dict[str, float]]:
    """Device seconds by the number of the trial and by activity."""
    table, trial = schema.costs, schema.trials
    query = select(trial.c.number, table.c.activity, table.c.seconds).join_from(table, trial)
    found: dict[int, dict[str, float]] = {}
    for row in connection.execute(query.where(trial.c.study_id == study_id)):
        found.setdefault(row.number, {})[row.activity] = row.seconds
    return found
