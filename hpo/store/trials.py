"""Trials: their states, parameters and records.

Every function is one step of the caller's transaction. None commits.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import TrialState
from sqlalchemy import Connection, insert, text

from hpo.search.samplers.distributions import distributions
from hpo.store import records, schema
from hpo.store.records import BATCH_ROWS, TrialRecord
from hpo.store.statements import Statement, columns
from hpo.values.space import Point, SearchSpace

OPEN = (TrialState.WAITING, TrialState.RUNNING)

_distribution = lru_cache(json_to_distribution)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial of hpo. `value` is its objective, None while it has none."""

    trial_id: int
    number: int
    state: TrialState
    point: Point
    record: TrialRecord
    value: float | None = None

    @property
    def is_paused(self) -> bool:
        """Whether the trial is paused. A trial that the dashboard ended while paused is not paused."""
        return self.state == TrialState.WAITING and self.record.paused is not None


@dataclass(frozen=True, slots=True)
class Foreign:
    """A trial that is not hpo's, for the `reason`.

    `params` are whatever another program has set, None if they cannot be read.
    """

    trial_id: int
    number: int
    state: TrialState
    params: Mapping[str, Any] | None
    reason: str
    value: float | None = None

    def point_in(self, space: SearchSpace, fixed: Mapping[str, Any] = MappingProxyType({})) -> Point | None:
        """Return the parameters as a point of the space, None if they are none.

        `fixed`: parameters that another program has enqueued.
        """
        if self.params is None:
            return None
        point = {**fixed, **self.params}
        return point if _are_values(point) and point in space else None


@dataclass(frozen=True, slots=True)
class StudyTrials:
    """Trials of a study by number: those of hpo, and those that other programs have added.

    A foreign trial becomes one of hpo's by adoption (`hpo.study.adoption`).
    """

    ours: list[TrialRow] = field(default_factory=list)
    foreign: list[Foreign] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ours) + len(self.foreign)

    @property
    def states(self) -> list[TrialState]:
        """The states of all trials."""
        return [*(row.state for row in self.ours), *(trial.state for trial in self.foreign)]


def enqueue(
    connection: Connection,
    study_id: int,
    space: SearchSpace,
    trials: Sequence[tuple[Point, TrialRecord]],
) -> list[TrialRow]:
    """Add waiting trials with these points and records. The study must be locked."""
    if not trials:
        return []
    table = schema.trials
    first: int = connection.execute(_NEXT_NUMBER, {"study": study_id}).scalar_one()
    values = [
        {"study_id": study_id, "number": first + index, "state": TrialState.WAITING}
        for index in range(len(trials))
    ]
    statement = insert(table).returning(table.c.trial_id, sort_by_parameter_order=True)
    trial_ids = list(connection.execute(statement, values).scalars())
    rows = [
        TrialRow(trial_id, first + index, TrialState.WAITING, point, record)
        for index, (trial_id, (point, record)) in enumerate(zip(trial_ids, trials, strict=True))
    ]
    set_points(connection, space, {row.trial_id: row.point for row in rows})
    records.insert(connection, {row.trial_id: row.record for row in rows})
    return rows


# Not the number of trials: another program may have deleted one.
_NEXT_NUMBER = text("SELECT coalesce(max(number) + 1, 0) FROM trials WHERE study_id = :study")


def set_points(connection: Connection, space: SearchSpace, points: Mapping[int, Point]) -> None:
    """Set the parameters of trials, by trial id. A parameter that is set already stays."""
    kinds = distributions(space)
    texts = {name: distribution_to_json(kind) for name, kind in kinds.items()}
    rows = [
        (trial_id, name, kinds[name].to_internal_repr(value), texts[name])
        for trial_id, point in points.items()
        for name, value in point.items()
    ]
    for start in range(0, len(rows), BATCH_ROWS):
        INSERT_PARAMS(connection, *columns(rows[start : start + BATCH_ROWS], 4))


INSERT_PARAMS = Statement("""
PREPARE insert_params (integer[], varchar[], double precision[], text[]) AS
-- Set parameters that are not set yet.
-- $1: trial ids, $2: names, $3: values as Optuna stores them, $4: distributions as JSON.
INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
SELECT * FROM unnest($1, $2, $3, $4)
ON CONFLICT DO NOTHING
""")


def read(connection: Connection, study_id: int, states: Collection[TrialState] = ()) -> StudyTrials:
    """Return the study's trials, or those in `states` if any are given."""
    names = [state.name for state in states or TrialState]
    return _study_trials(READ_TRIALS(connection, study_id, names))


READ_TRIALS = Statement("""
PREPARE read_trials (integer, trialstate[]) AS
-- Read the trials of study $1 that are in a state of $2.
-- Parameters are read here, since a second statement would take as long as reading them.
SELECT trials.trial_id, trials.number, trials.state, trial_values.value,
    (
        SELECT json_agg(json_build_array(param_name, param_value, distribution_json) ORDER BY param_id)
        FROM trial_params
        WHERE trial_params.trial_id = trials.trial_id
    ) AS params,
    record.seed, record.promoted_from, record.forked_from, record.paused, record.takeovers, record.worker,
    record.device, record.epochs, record.kept_epoch, record.metrics, record.weights, record.reason,
    record.alone, record.retry_of, record.refit_of, record.limits
FROM trials
LEFT JOIN trial_values ON trial_values.trial_id = trials.trial_id AND trial_values.objective = 0
LEFT JOIN hpo.trial AS record ON record.trial_id = trials.trial_id
WHERE trials.study_id = $1 AND trials.state = ANY ($2)
ORDER BY trials.number
""")


def _study_trials(rows: Iterable[Sequence[Any]]) -> StudyTrials:
    """Tell the trials of hpo from foreign ones. Nothing else does."""
    trials = StudyTrials()
    for trial_id, number, name, value, params, *values in rows:
        state, value = TrialState[name], _finite(value)
        try:
            point = {key: _distribution(kind).to_external_repr(inner) for key, inner, kind in params or ()}
            record = records.parse(values)
        except Exception as error:  # another program may have written anything, and Optuna may raise anything
            reason = f"its rows cannot be read ({type(error).__name__})"
            trials.foreign.append(Foreign(trial_id, number, state, None, reason, value))
            continue
        if record is None:
            trials.foreign.append(Foreign(trial_id, number, state, point, "hpo did not add it", value))
        elif not _are_values(point):
            reason = "another program has changed its parameters"
            trials.foreign.append(Foreign(trial_id, number, state, None, reason, value))
        else:
            trials.ours.append(TrialRow(trial_id, number, state, point, record, value))
    return trials


def _are_values(point: Mapping[str, Any]) -> bool:
    """Return whether all parameters have a type that a parameter of hpo can have."""
    return all(type(value) in (int, float, str, bool) for value in point.values())


def _finite(value: float | None) -> float | None:
    # hpo's losses are finite, and Optuna stores an infinite value as null.
    return value if value is not None and isfinite(value) else None


def claimable(connection: Connection, study_id: int) -> StudyTrials:
    """Return the trials that may be leased: begun trials first, then the others, both in order of number.

    Running trials without a lease count as well. They were started by something else, such as Optuna, and
    nothing shows whether anyone still works on them. Paused trials do not count.
    """
    return _study_trials(READ_CLAIMABLE_TRIALS(connection, study_id))


READ_CLAIMABLE_TRIALS = Statement("""
PREPARE read_claimable_trials (integer) AS
-- Read the trials of study $1 that may be leased, with the same columns as read_trials.
SELECT trials.trial_id, trials.number, trials.state, NULL AS value,
    (
        SELECT json_agg(json_build_array(param_name, param_value, distribution_json) ORDER BY param_id)
        FROM trial_params
        WHERE trial_params.trial_id = trials.trial_id
    ) AS params,
    record.seed, record.promoted_from, record.forked_from, record.paused, record.takeovers, record.worker,
    record.device, record.epochs, record.kept_epoch, record.metrics, record.weights, record.reason,
    record.alone, record.retry_of, record.refit_of, record.limits
FROM trials
LEFT JOIN hpo.lease USING (trial_id)
LEFT JOIN hpo.trial AS record USING (trial_id)
WHERE trials.study_id = $1
    AND (
        trials.state = 'RUNNING' AND lease.trial_id IS NULL
        OR trials.state = 'WAITING' AND record.paused IS NULL
    )
ORDER BY CASE WHEN trials.state = 'RUNNING' OR lease.trial_id IS NOT NULL THEN 0 ELSE 1 END, trials.number
""")


def paused(connection: Connection, study_id: int) -> dict[int, int]:
    """Return the epoch after which each paused trial of the study was paused, by trial id."""
    return {row.trial_id: row.paused for row in connection.execute(_PAUSED, {"study": study_id})}


_PAUSED = text("""
SELECT trial_id, paused
FROM trials JOIN hpo.trial USING (trial_id)
WHERE study_id = :study AND state IN ('WAITING', 'RUNNING') AND paused IS NOT NULL
""")


def unpause(connection: Connection, trial_ids: Iterable[int]) -> None:
    """Let paused trials wait like new ones."""
    connection.execute(_UNPAUSE, {"ids": list(trial_ids)})


_UNPAUSE = text("UPDATE hpo.trial SET paused = NULL WHERE trial_id = ANY (:ids)")


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

    Only trials that hpo trained count, not those that others added or ended.
    """
    rows = connection.execute(_ENDED, {"study": study_id})
    return [(row.number, TrialState[row.state], row.value) for row in rows]


_ENDED = text("""
SELECT trials.number, trials.state, trial_values.value
FROM trials
JOIN hpo.trial AS record USING (trial_id)
LEFT JOIN trial_values ON trial_values.trial_id = trials.trial_id AND trial_values.objective = 0
WHERE trials.study_id = :study AND trials.state IN ('COMPLETE', 'PRUNED') AND record.metrics IS NOT NULL
ORDER BY trials.datetime_complete, trials.number
""")
