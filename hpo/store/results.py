"""Results of training: the metrics of each epoch, learning curves, and how a trial ends.

Every function is one step of the caller's transaction. None commits.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Connection, text

from hpo.store import records
from hpo.store.records import decode_metrics, encode_metrics
from hpo.store.statements import Statement, columns
from hpo.values.epoch import EpochResult, Metrics
from hpo.values.objective import Objective


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """How a trial ends: its final state, its objective if it has one, and what is recorded of it.

    `value` is infinite if nothing measured the objective, since Optuna wants a value of a completed trial.
    The fields after `value` are those of `TrialRecord`. If `epochs` is set, the records of later epochs are
    deleted: an earlier attempt may have trained further before its worker was lost.
    """

    state: TrialState
    value: float | None = None
    _: KW_ONLY
    epochs: int | None = None
    kept_epoch: int | None = None
    metrics: Metrics | None = None
    weights: str | None = None
    reason: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class TrialCurve:
    """A trial's number and state, and the cost of its objective by epoch. A lower cost is better."""

    number: int
    state: TrialState
    costs: dict[int, float]


def report(
    connection: Connection,
    results: Mapping[int, EpochResult],
    objective: Objective,
    worker: str | None = None,
) -> set[int]:
    """Record one epoch of each trial, by trial id, and return the ids of the trials whose epoch is new.

    An epoch that is on record stays as it is. Metrics must be finite, and the caller must hold the leases.
    Optuna gets no value of an epoch that did not measure the objective. `worker`: its name.
    """
    if not results:
        return set()
    rows = (
        (i, each.epoch, each.metrics.get(objective.key), encode_metrics(each.metrics), each.device_seconds)
        for i, each in results.items()
    )
    return set(REPORT_EPOCHS(connection, *columns(rows, 5), worker).scalars())


REPORT_EPOCHS = Statement("""
PREPARE report_epochs (integer[], integer[], double precision[], jsonb[], double precision[], text) AS
-- Record the metrics of epochs for hpo, and the objectives for Optuna. Return the trials whose epoch is new.
-- $1: trial ids, $2: epochs, $3: objectives or null, $4: metrics, $5: device seconds, $6: worker.
WITH intermediate AS (
    INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT trial_id, epoch, objective, 'FINITE' FROM unnest($1, $2, $3) AS given (trial_id, epoch, objective)
    WHERE objective IS NOT NULL
    ON CONFLICT DO NOTHING
)
INSERT INTO hpo.epoch (trial_id, epoch, metrics, seconds, worker)
SELECT *, $6 FROM unnest($1, $2, $4, $5)
ON CONFLICT DO NOTHING
RETURNING trial_id
""")


def trained_epochs(
    connection: Connection, study_id: int, inherited: int
) -> dict[int, tuple[TrialState, int]]:
    """Return state and recorded epochs of each trial, by number, without the first `inherited` trials."""
    rows = COUNT_EPOCHS(connection, study_id, inherited)
    return {number: (TrialState[state], epochs) for number, state, epochs in rows}


COUNT_EPOCHS = Statement("""
PREPARE count_epochs (integer, integer) AS
-- Count the recorded epochs of each trial of study $1 from number $2 on.
SELECT trials.number, trials.state, count(epoch.epoch)
FROM trials LEFT JOIN hpo.epoch USING (trial_id)
WHERE trials.study_id = $1 AND trials.number >= $2
GROUP BY trials.trial_id
""")


def any_epoch(connection: Connection, study_id: int, inherited: int = 0) -> bool:
    """Return whether a trial of the study, after the first `inherited`, has a recorded epoch."""
    exists: bool = connection.execute(_ANY_EPOCH, {"study": study_id, "first": inherited}).scalar_one()
    return exists


_ANY_EPOCH = text("""
SELECT EXISTS (
    SELECT FROM trials JOIN hpo.epoch USING (trial_id) WHERE study_id = :study AND number >= :first
)
""")


def epoch_metrics(
    connection: Connection, epochs: Mapping[int, int], objective: Objective
) -> dict[int, Metrics]:
    """Return the metrics of one epoch of each trial, by trial id and name.

    If that epoch is not recorded, the best recorded epoch takes its place. Trials without a recorded epoch
    are left out.
    """
    sign = -1 if objective.is_maximised else 1
    values = {"ids": list(epochs), "epochs": list(epochs.values()), "key": objective.key, "sign": sign}
    rows = connection.execute(_EPOCH_METRICS, values)
    return {trial_id: decode_metrics(metrics) for trial_id, metrics in rows}


_EPOCH_METRICS = text("""
SELECT DISTINCT ON (epoch.trial_id) epoch.trial_id, epoch.metrics
FROM unnest(CAST(:ids AS integer[]), CAST(:epochs AS integer[])) AS wanted (trial_id, epoch)
JOIN hpo.epoch USING (trial_id)
ORDER BY epoch.trial_id, epoch.epoch <> wanted.epoch,
    :sign * CAST(epoch.metrics ->> :key AS double precision)
""")


def curves(connection: Connection, study_id: int, objective: Objective) -> dict[int, TrialCurve]:
    """Return the learning curves of the study's trials, by trial id."""
    return _trial_curves(READ_CURVES(connection, study_id), objective)


READ_CURVES = Statement("""
PREPARE read_curves (integer) AS
-- Read the trials of study $1 and their intermediate values.
SELECT trials.trial_id, trials.number, trials.state, report.step, report.intermediate_value
FROM trials LEFT JOIN trial_intermediate_values AS report
    ON report.trial_id = trials.trial_id AND report.intermediate_value IS NOT NULL
WHERE trials.study_id = $1
""")


def curves_at(
    connection: Connection,
    study_id: int,
    objective: Objective,
    epochs: Collection[int],
    whole: Collection[int],
) -> dict[int, TrialCurve]:
    """Return learning curves by trial id: all epochs of the trials `whole`, only `epochs` of the others."""
    return _trial_curves(READ_CURVES_AT(connection, study_id, list(epochs), list(whole)), objective)


READ_CURVES_AT = Statement("""
PREPARE read_curves_at (integer, integer[], integer[]) AS
-- Read the trials of study $1 and their intermediate values at the epochs $2, or at all of the trials $3.
SELECT trials.trial_id, trials.number, trials.state, report.step, report.intermediate_value
FROM trials LEFT JOIN trial_intermediate_values AS report
    ON report.trial_id = trials.trial_id AND report.intermediate_value IS NOT NULL
    AND (report.step = ANY ($2) OR report.trial_id = ANY ($3))
WHERE trials.study_id = $1
""")


def _trial_curves(rows: Iterable[Sequence[Any]], objective: Objective) -> dict[int, TrialCurve]:
    """Return the curves in rows of Optuna's tables, which hold the objective itself."""
    by_id: dict[int, TrialCurve] = {}
    for trial_id, number, state, epoch, value in rows:
        if trial_id not in by_id:
            by_id[trial_id] = TrialCurve(number, TrialState[state], {})
        if epoch is not None:
            by_id[trial_id].costs[epoch] = objective.cost(value)
    return by_id


def finish(
    connection: Connection,
    outcomes: Mapping[int, TrialOutcome],
    worker: str | None = None,
    device: str | None = None,
) -> None:
    """End trials, by trial id, and delete their leases and checkpoints. The caller must hold the leases.

    A trial that has ended already stays as it is. `worker` and `device` are those that ended the trials; None
    keeps those of the last pause.
    """
    if not outcomes:
        return
    rows = (
        (
            trial_id,
            outcome.state.name,
            outcome.epochs,
            outcome.kept_epoch,
            None if outcome.metrics is None else encode_metrics(outcome.metrics),
            outcome.weights,
            storable(outcome.reason),
            storable(outcome.traceback),
        )
        for trial_id, outcome in outcomes.items()
    )
    ended = set(END_TRIALS(connection, *columns(rows, 8), worker, device).scalars())
    if not ended:
        return
    values = ((i, outcome.value, outcome.epochs) for i, outcome in outcomes.items() if i in ended)
    RECORD_OBJECTIVES(connection, *columns(values, 3))
    records.mirror(connection, ended)


def storable(message: str | None) -> str | None:
    """Return the message of an exception without characters that Postgres refuses."""
    if message is None:
        return None
    return message.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


END_TRIALS = Statement("""
PREPARE end_trials (
    integer[], trialstate[], integer[], integer[], jsonb[], text[], text[], text[], text, text
) AS
-- Set the final state of trials that are open, and return their ids. Delete leases and checkpoints.
-- $1: trial ids, $2: states, $3: epochs, $4: kept epochs, $5: metrics, $6: weights, $7: reasons,
-- $8: tracebacks, $9: worker, $10: device.
WITH given AS (
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
        AS given (trial_id, state, epochs, kept_epoch, metrics, weights, reason, traceback)
), ended AS (
    UPDATE trials
    SET state = given.state, datetime_complete = timezone('utc', now())
    FROM given
    WHERE trials.trial_id = given.trial_id AND trials.state IN ('WAITING', 'RUNNING')
    RETURNING trials.trial_id, trials.study_id
), happened AS (
    INSERT INTO hpo.event (study_id, trial_id, worker, kind, detail)
    SELECT study_id, trial_id, $9,
        CASE state WHEN 'COMPLETE' THEN 'completed' WHEN 'PRUNED' THEN 'pruned' ELSE 'failed' END,
        jsonb_strip_nulls(jsonb_build_object('epochs', epochs, 'reason', reason))
    FROM ended JOIN given USING (trial_id)
    ORDER BY trial_id
), recorded AS (
    UPDATE hpo.trial AS record
    SET paused = NULL, alone = false, worker = coalesce($9, worker), device = coalesce($10, device),
        epochs = given.epochs, kept_epoch = given.kept_epoch, metrics = given.metrics,
        weights = given.weights, reason = given.reason, traceback = given.traceback
    FROM given JOIN ended USING (trial_id)
    WHERE record.trial_id = given.trial_id
), checkpoints AS (
    DELETE FROM hpo.checkpoint WHERE trial_id = ANY ($1)
), leases AS (
    DELETE FROM hpo.lease WHERE trial_id = ANY ($1)
)
SELECT trial_id FROM ended
""")

RECORD_OBJECTIVES = Statement("""
PREPARE record_objectives (integer[], double precision[], integer[]) AS
-- Record the objectives of trials, and delete the records of later epochs.
-- $1: trial ids, $2: objectives or null, $3: the last epoch of each trial, or null to keep all.
WITH given AS (
    SELECT * FROM unnest($1, $2, $3) AS given (trial_id, value, last)
), later_epochs AS (
    DELETE FROM hpo.epoch USING given
    WHERE epoch.trial_id = given.trial_id AND epoch.epoch > given.last
), later_values AS (
    DELETE FROM trial_intermediate_values AS report USING given
    WHERE report.trial_id = given.trial_id AND report.step > given.last
)
-- Another program may have set a value while the trial ran.
INSERT INTO trial_values (trial_id, objective, value, value_type)
SELECT trial_id, 0, nullif(nullif(value, 'Infinity'), '-Infinity'), CAST(
    CASE value WHEN 'Infinity' THEN 'INF_POS' WHEN '-Infinity' THEN 'INF_NEG' ELSE 'FINITE' END
    AS trialvaluetype)
FROM given WHERE value IS NOT NULL
ON CONFLICT (trial_id, objective) DO UPDATE SET value = excluded.value, value_type = excluded.value_type
""")


def discard(connection: Connection, trial_id: int) -> None:
    """Delete what another program has reported for an open trial: its value and intermediate values."""
    connection.execute(_DISCARD, {"id": trial_id})


_DISCARD = text("""
WITH steps AS (DELETE FROM trial_intermediate_values WHERE trial_id = :id)
DELETE FROM trial_values WHERE trial_id = :id
""")
