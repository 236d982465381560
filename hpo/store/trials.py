"""Trials: their states, parameters and attributes.

Every function is one step of the caller's transaction. None commits.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import TrialState
from sqlalchemy import Connection, insert, text

from hpo.search.samplers.distributions import distributions
from hpo.store import schema
from hpo.store.statements import Statement, columns
from hpo.values.space import Point, SearchSpace

OPEN = (TrialState.WAITING, TrialState.RUNNING)

BATCH_ROWS = 500
"""The most rows that one statement inserts."""

TRAINED = frozenset({"seed", "accuracy"})
"""The attributes of every trial that hpo trained to its end."""

PAUSED = "hpo:paused"
"""The attribute of a paused trial: the epoch after which it was paused. Statements spell it out."""

_distribution = lru_cache(json_to_distribution)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial as the database has it. `value` is its objective, None while it has none."""

    trial_id: int
    number: int
    state: TrialState
    point: Point
    attributes: Mapping[str, Any]
    value: float | None = None


def enqueue(
    connection: Connection,
    study_id: int,
    space: SearchSpace,
    trials: Sequence[tuple[Point, Mapping[str, Any]]],
) -> list[TrialRow]:
    """Add waiting trials with these points and attributes. The study must be locked."""
    if not trials:
        return []
    table, first = schema.trials, count(connection, study_id)
    values = [
        {"study_id": study_id, "number": first + index, "state": TrialState.WAITING}
        for index in range(len(trials))
    ]
    statement = insert(table).returning(table.c.trial_id, sort_by_parameter_order=True)
    trial_ids = list(connection.execute(statement, values).scalars())
    rows = [
        TrialRow(trial_id, first + index, TrialState.WAITING, point, attributes)
        for index, (trial_id, (point, attributes)) in enumerate(zip(trial_ids, trials, strict=True))
    ]
    set_points(connection, space, {row.trial_id: row.point for row in rows})
    set_attributes(connection, {row.trial_id: row.attributes for row in rows})
    return rows


def set_points(connection: Connection, space: SearchSpace, points: Mapping[int, Point]) -> None:
    """Set the parameters of trials, by trial id. A parameter that is set already stays."""
    kinds = distributions(space)
    texts = {name: distribution_to_json(kind) for name, kind in kinds.items()}
    rows = [
        (trial_id, name, kinds[name].to_internal_repr(value), texts[name])
        for trial_id, point in points.items()
        for name, value in point.items()
    ]
    _insert(connection, INSERT_PARAMS, rows)


INSERT_PARAMS = Statement("""
PREPARE insert_params (integer[], varchar[], double precision[], text[]) AS
-- Set parameters that are not set yet.
-- $1: trial ids, $2: names, $3: values as Optuna stores them, $4: distributions as JSON.
INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
SELECT * FROM unnest($1, $2, $3, $4)
ON CONFLICT DO NOTHING
""")


def set_attributes(connection: Connection, attributes: Mapping[int, Mapping[str, Any]]) -> None:
    """Set attributes of trials, by trial id."""
    rows = [
        (trial_id, key, json.dumps(value))
        for trial_id, pairs in attributes.items()
        for key, value in pairs.items()
    ]
    _insert(connection, SET_ATTRIBUTES, rows)


SET_ATTRIBUTES = Statement("""
PREPARE set_attributes (integer[], varchar[], text[]) AS
-- Set attributes of trials.
-- $1: trial ids, $2: keys, $3: values as JSON.
INSERT INTO trial_user_attributes (trial_id, key, value_json)
SELECT * FROM unnest($1, $2, $3)
ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
""")


def _insert(connection: Connection, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
    for start in range(0, len(rows), BATCH_ROWS):
        statement(connection, *columns(rows[start : start + BATCH_ROWS], len(statement.types)))


def unset_attribute(connection: Connection, trial_ids: Iterable[int], key: str) -> None:
    connection.execute(_UNSET_ATTRIBUTE, {"ids": list(trial_ids), "key": key})


_UNSET_ATTRIBUTE = text("DELETE FROM trial_user_attributes WHERE trial_id = ANY (:ids) AND key = :key")


def read(connection: Connection, study_id: int, states: Collection[TrialState] = ()) -> list[TrialRow]:
    """Return the study's trials, or those in `states` if any are given, by number."""
    names = [state.name for state in states or TrialState]
    return [_trial_row(*row) for row in READ_TRIALS(connection, study_id, names)]


READ_TRIALS = Statement("""
PREPARE read_trials (integer, trialstate[]) AS
-- Read the trials of study $1 that are in a state of $2.
-- Parameters and attributes are read here, since a second statement would take as long as reading them.
SELECT trials.trial_id, trials.number, trials.state, trial_values.value,
    (
        SELECT json_agg(json_build_array(param_name, param_value, distribution_json) ORDER BY param_id)
        FROM trial_params
        WHERE trial_params.trial_id = trials.trial_id
    ) AS params,
    -- Joined as text, since the values are JSON as Python writes it, which may have a NaN.
    (
        SELECT '{' || string_agg(to_json(key)::text || ':' || value_json, ',') || '}'
        FROM trial_user_attributes
        WHERE trial_user_attributes.trial_id = trials.trial_id
    ) AS attributes
FROM trials LEFT JOIN trial_values USING (trial_id)
WHERE trials.study_id = $1 AND trials.state = ANY ($2)
ORDER BY trials.number
""")


# Six parameters: one per column of the query.
def _trial_row(  # noqa: PLR0913
    trial_id: int,
    number: int,
    state: str,
    value: float | None,
    params: Sequence[tuple[str, float, str]] | None,
    attributes: str | None,
) -> TrialRow:
    point = {name: _distribution(kind).to_external_repr(inner) for name, inner, kind in params or ()}
    return TrialRow(trial_id, number, TrialState[state], point, json.loads(attributes or "{}"), value)


def fixed_params(connection: Connection, trial_ids: Iterable[int]) -> dict[int, Point]:
    """Return the numbers that were passed to Optuna's `enqueue_trial`, by trial id.

    Optuna notes them as an attribute and sets no parameter.
    """
    ids = list(trial_ids)
    if not ids:
        return {}
    return {
        trial_id: {k: v for k, v in json.loads(value).items() if type(v) in (int, float)}
        for trial_id, value in connection.execute(_FIXED_PARAMS, {"ids": ids})
    }


_FIXED_PARAMS = text("""
SELECT trial_id, value_json FROM trial_system_attributes
WHERE trial_id = ANY (:ids) AND key = 'fixed_params'
""")


def claimable(connection: Connection, study_id: int) -> list[TrialRow]:
    """Return the trials that may be leased: begun trials first, then the others, both in order of number.

    Running trials without a lease count as well. They were started by something else, such as Optuna, and
    nothing shows whether anyone still works on them. Paused trials do not count.
    """
    return [_trial_row(*row) for row in READ_CLAIMABLE_TRIALS(connection, study_id)]


READ_CLAIMABLE_TRIALS = Statement("""
PREPARE read_claimable_trials (integer) AS
-- Read the trials of study $1 that may be leased, with the same columns as read_trials.
SELECT trials.trial_id, trials.number, trials.state, NULL AS value,
    (
        SELECT json_agg(json_build_array(param_name, param_value, distribution_json) ORDER BY param_id)
        FROM trial_params
        WHERE trial_params.trial_id = trials.trial_id
    ) AS params,
    (
        SELECT '{' || string_agg(to_json(key)::text || ':' || value_json, ',') || '}'
        FROM trial_user_attributes
        WHERE trial_user_attributes.trial_id = trials.trial_id
    ) AS attributes
FROM trials LEFT JOIN hpo.lease USING (trial_id)
WHERE trials.study_id = $1
    AND (
        trials.state = 'RUNNING' AND lease.trial_id IS NULL
        OR trials.state = 'WAITING' AND NOT EXISTS (
            SELECT FROM trial_user_attributes AS paused
            WHERE paused.trial_id = trials.trial_id AND paused.key = 'hpo:paused'
        )
    )
ORDER BY CASE WHEN trials.state = 'RUNNING' OR lease.trial_id IS NOT NULL THEN 0 ELSE 1 END, trials.number
""")


def paused(connection: Connection, study_id: int) -> dict[int, int]:
    """Return the epoch after which each paused trial of the study was paused, by trial id."""
    rows = connection.execute(_PAUSED, {"study": study_id, "key": PAUSED})
    return {trial_id: json.loads(value) for trial_id, value in rows if value is not None}


_PAUSED = text("""
-- The attribute is looked up for each open trial: keys have no index, and other studies have attributes too.
SELECT trials.trial_id, (
    SELECT value_json FROM trial_user_attributes AS paused
    WHERE paused.trial_id = trials.trial_id AND paused.key = :key
)
FROM trials
WHERE trials.study_id = :study AND trials.state IN ('WAITING', 'RUNNING')
""")


def count(connection: Connection, study_id: int, states: Collection[TrialState] = ()) -> int:
    """Return the number of the study's trials, or of those in `states` if any are given."""
    names = [state.name for state in states or TrialState]
    number: int = connection.execute(_COUNT, {"study": study_id, "states": names}).scalar_one()
    return number


_COUNT = text(
    "SELECT count(*) FROM trials WHERE study_id = :study AND state = ANY (CAST(:states AS trialstate[]))"
)


def count_begun(connection: Connection, study_id: int) -> int:
    """Return the number of open trials that a worker has, or had and lost.

    A stage that is stopped still finishes these.
    """
    number: int = connection.execute(_COUNT_BEGUN, {"study": study_id}).scalar_one()
    return number


_COUNT_BEGUN = text("""
SELECT count(*)
FROM trials LEFT JOIN hpo.lease USING (trial_id)
WHERE trials.study_id = :study
    AND (trials.state = 'RUNNING' OR trials.state = 'WAITING' AND lease.trial_id IS NOT NULL)
""")


def ended(connection: Connection, study_id: int) -> list[tuple[int, TrialState, float | None]]:
    """Return number, state and value of the completed and pruned trials, in the order in which they ended.

    Only trials that hpo trained count. Those that others added or ended lack the seed or the accuracy.
    """
    values = {"study": study_id, "keys": list(TRAINED), "all": len(TRAINED)}
    rows = connection.execute(_ENDED, values)
    return [(row.number, TrialState[row.state], row.value) for row in rows]


_ENDED = text("""
SELECT trials.number, trials.state, trial_values.value
FROM trials LEFT JOIN trial_values USING (trial_id)
WHERE trials.study_id = :study
    AND trials.state IN ('COMPLETE', 'PRUNED')
    AND trials.trial_id IN (
        SELECT trial_id FROM trial_user_attributes
        WHERE key = ANY (:keys)
        GROUP BY trial_id
        HAVING count(*) = :all
    )
ORDER BY trials.datetime_complete, trials.number
""")
