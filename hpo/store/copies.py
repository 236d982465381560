"""Copies of ended trials, for a fork of their study."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, Integer, column, insert, literal, select, text, values

from hpo.store import records, schema
from hpo.store.trials import TrialRow, set_points
from hpo.values.objective import Objective
from hpo.values.space import Point, SearchSpace


def copy_ended(
    connection: Connection, study_id: int, space: SearchSpace, trials: Sequence[tuple[TrialRow, Point]]
) -> None:
    """Copy ended trials, at points of `space`, with their values, curves, epochs, records and attributes.

    The study must be new: the copies are its first trials, numbered in the order given. The record of a copy
    has the number of the original as `forked_from`. This is one step of the caller's transaction.
    """
    if not trials:
        return
    table = schema.trials
    origins = values(column("number", Integer), column("origin_id", Integer), name="origins").data(
        [(number, row.trial_id) for number, (row, _) in enumerate(trials)]
    )
    originals = select(
        literal(study_id),
        origins.c.number,
        table.c.state,
        table.c.datetime_start,
        table.c.datetime_complete,
    ).join_from(origins, table, table.c.trial_id == origins.c.origin_id)
    names = ["study_id", "number", "state", "datetime_start", "datetime_complete"]
    connection.execute(insert(table).from_select(names, originals))
    numbered = select(table.c.trial_id).where(table.c.study_id == study_id).order_by(table.c.number)
    trial_ids = list(connection.execute(numbered).scalars())
    set_points(connection, space, {i: point for i, (_, point) in zip(trial_ids, trials, strict=True)})
    copy = table.alias("copy")
    is_copy = (copy.c.study_id == study_id) & (copy.c.number == origins.c.number)
    for results in (
        schema.records,
        schema.trial_attributes,
        schema.trial_values,
        schema.intermediate_values,
        schema.epochs,
    ):
        copied = [c for c in results.c if c.name != "trial_id" and c is not results.autoincrement_column]
        rows = (
            select(copy.c.trial_id, *copied)
            .join_from(origins, copy, is_copy)
            .join(results, results.c.trial_id == origins.c.origin_id)
        )
        connection.execute(insert(results).from_select(["trial_id", *(c.name for c in copied)], rows))
    numbers = {"ids": trial_ids, "numbers": [row.number for row, _ in trials]}
    connection.execute(_SET_ORIGINS, numbers)
    records.mirror(connection, trial_ids)


def measured(connection: Connection, trial_ids: Collection[int], objective: Objective) -> set[int]:
    """Return the trials whose record and whose epochs all have the metric of the objective."""
    values = {"ids": list(trial_ids), "key": objective.key}
    return set(connection.execute(_MEASURED, values).scalars())


_MEASURED = text("""
SELECT trial_id FROM hpo.trial AS record
WHERE trial_id = ANY (:ids) AND jsonb_exists(metrics, :key) AND NOT EXISTS (
    SELECT FROM trial_intermediate_values AS report
    LEFT JOIN hpo.epoch ON epoch.trial_id = report.trial_id AND epoch.epoch = report.step
    WHERE report.trial_id = record.trial_id AND jsonb_exists(epoch.metrics, :key) IS NOT TRUE
)
""")


def take_values(connection: Connection, study_id: int, objective: Objective) -> None:
    """Replace the values of copies by their metric of another objective, which every epoch must have."""
    for statement in (_TAKE_VALUES, _TAKE_INTERMEDIATE_VALUES):
        connection.execute(statement, {"study": study_id, "key": objective.key})


_TAKE_VALUES = text("""
UPDATE trial_values SET value = CAST(record.metrics ->> :key AS double precision)
FROM trials JOIN hpo.trial AS record USING (trial_id)
WHERE trials.study_id = :study AND trial_values.trial_id = trials.trial_id AND trial_values.objective = 0
""")

_TAKE_INTERMEDIATE_VALUES = text("""
UPDATE trial_intermediate_values AS report
SET intermediate_value = CAST(epoch.metrics ->> :key AS double precision)
FROM trials JOIN hpo.epoch USING (trial_id)
WHERE trials.study_id = :study AND report.trial_id = trials.trial_id AND report.step = epoch.epoch
""")

_SET_ORIGINS = text("""
UPDATE hpo.trial AS record SET retry_of = NULL, forked_from = origin.number
FROM unnest(CAST(:ids AS integer[]), CAST(:numbers AS integer[])) AS origin (trial_id, number)
WHERE record.trial_id = origin.trial_id
""")
