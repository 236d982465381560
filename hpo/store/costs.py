"""What device seconds were spent on: of each trial, and of a study's workers apart from its trials.

Every function takes the caller's open transaction and is one step of it; nothing here commits.
"""

from collections.abc import Mapping

from sqlalchemy import ClauseElement, Connection, Table, bindparam, func, select
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as upsert

from hpo.store import schema
from hpo.store.bulk import arrays, insertion, rows_of
from hpo.store.statements import Prepared

SPENT = ("trial_id", "activity", "seconds")


def is_new(connection: Connection, worker: str, number: int) -> bool:
    """Whether a delivery of the worker is not written yet; its numbers rise.

    A connection may die after a commit and before the answer, and then all of it is delivered again. What
    only adds up asks here first.
    """
    return _delivering(connection, {"its_worker": worker, "its_number": number}).first() is not None


@Prepared
def _delivering() -> ClauseElement:
    table = schema.deliveries
    told = {c.name: bindparam(f"its_{c.name}", type_=c.type) for c in table.c}
    statement = upsert(table).values(told)
    return statement.on_conflict_do_update(
        index_elements=[table.c.worker],
        set_={"number": statement.excluded.number},
        where=table.c.number < statement.excluded.number,
    ).returning(table.c.number)


def charge(connection: Connection, seconds: Mapping[int, Mapping[str, float]]) -> None:
    """Adds device seconds, by trial id and activity; those of trials that were deleted are forgotten."""
    rows = [(trial, activity, spent) for trial, its in seconds.items() for activity, spent in its.items()]
    if rows:
        _charging(connection, arrays(SPENT, rows))


@Prepared
def _charging() -> ClauseElement:
    table, trial_id = schema.costs, schema.trials.c.trial_id
    given = rows_of(*(table.c[name] for name in SPENT)).cte("given")
    present = (
        select(trial_id)
        .where(trial_id.in_(select(given.c.trial_id)))
        .order_by(trial_id)
        .with_for_update(read=True, key_share=True)
        .cte("present")
    )
    charged = select(given).where(given.c.trial_id.in_(select(present)))
    # In one order everywhere, so that two that add to the same ones cannot deadlock.
    return _added(table, upsert(table).from_select(SPENT, charged.order_by(*given.c)))


def charge_study(connection: Connection, study_id: int, seconds: Mapping[str, float]) -> None:
    """Adds device seconds of a study that belong to no trial, by activity; nothing if it was deleted."""
    table = schema.studies
    query = select(table.c.study_id).where(table.c.study_id == study_id)
    if connection.execute(query.with_for_update(read=True, key_share=True)).first() is None:
        return
    names = ("study_id", "activity", "seconds")
    rows = [(study_id, activity, spent) for activity, spent in sorted(seconds.items())]
    if rows:
        connection.execute(_added(schema.overheads, insertion(schema.overheads, *names)), arrays(names, rows))


def _added(table: Table, statement: Insert) -> Insert:
    """What is there already grows by what would be inserted."""
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={"seconds": table.c.seconds + statement.excluded.seconds},
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
