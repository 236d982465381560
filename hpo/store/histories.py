"""What trials and epochs took, for tables of whole studies.

Every function is one step of the caller's transaction. None commits.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from hpo.store.records import decode_metrics
from hpo.store.statements import Statement
from hpo.values.epoch import Metrics


@dataclass(frozen=True, slots=True)
class TrialTimes:
    """When a trial was started and when it ended, in UTC; its recorded epochs, and its device seconds."""

    started: datetime | None = None
    ended: datetime | None = None
    epochs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordedEpoch:
    """An epoch of a trial.

    `worker` reported the epoch, `seconds` are the device seconds of training and evaluation, and `at` is the
    time of the record in UTC. All three are None for an epoch that an older version recorded.
    """

    epoch: int
    metrics: Metrics
    worker: str | None
    seconds: float | None
    at: datetime | None


def trial_times(connection: Connection, study_ids: Collection[int]) -> dict[int, TrialTimes]:
    """Return the times of all trials of these Optuna studies, by trial id."""
    rows = READ_TRIAL_TIMES(connection, list(study_ids))
    return {
        trial_id: TrialTimes(_utc(started), _utc(ended), epochs, seconds)
        for trial_id, started, ended, epochs, seconds in rows
    }


READ_TRIAL_TIMES = Statement("""
PREPARE read_trial_times (integer[]) AS
-- Read start, end, number of epochs and device seconds of the trials of the studies $1.
WITH epochs AS (
    SELECT trial_id, count(*) AS epochs FROM hpo.epoch JOIN trials USING (trial_id)
    WHERE trials.study_id = ANY ($1)
    GROUP BY trial_id
), costs AS (
    SELECT trial_id, sum(seconds) AS seconds FROM hpo.cost JOIN trials USING (trial_id)
    WHERE trials.study_id = ANY ($1)
    GROUP BY trial_id
)
SELECT trial_id, datetime_start, datetime_complete, coalesce(epochs, 0), coalesce(seconds, 0)
FROM trials LEFT JOIN epochs USING (trial_id) LEFT JOIN costs USING (trial_id)
WHERE trials.study_id = ANY ($1)
""")


def epochs(connection: Connection, study_ids: Collection[int]) -> dict[int, list[RecordedEpoch]]:
    """Return the epochs of all trials of these Optuna studies in order, by trial id.

    An epoch whose metrics another program has made unreadable has no metrics.
    """
    by_id: dict[int, list[RecordedEpoch]] = {}
    for trial_id, epoch, metrics, worker, seconds, at in READ_EPOCHS(connection, list(study_ids)):
        recorded = RecordedEpoch(epoch, _readable(metrics), worker, seconds, _utc(at))
        by_id.setdefault(trial_id, []).append(recorded)
    return by_id


READ_EPOCHS = Statement("""
PREPARE read_epochs (integer[]) AS
-- Read the epochs of the trials of the studies $1.
SELECT trial_id, epoch, metrics, worker, seconds, at
FROM hpo.epoch JOIN trials USING (trial_id)
WHERE trials.study_id = ANY ($1)
ORDER BY trial_id, epoch
""")


def version(connection: Connection, study: str, study_ids: Collection[int]) -> str:
    """Return text that changes with whatever a table of a study shows.

    That is an event, an epoch, the state of a trial, device time, an attribute, or a worker that comes or
    goes. `study_ids` are the Optuna studies of the study with this name.
    """
    row = connection.execute(_VERSION, {"name": study, "studies": list(study_ids)}).one()
    return " ".join(map(str, row))


_VERSION = text("""
SELECT
    (SELECT count(*) || ' ' || coalesce(max(event_id), 0) FROM hpo.event WHERE study_id = ANY (:studies)),
    (SELECT count(*) || ' ' || coalesce(sum(epoch), 0) FROM hpo.epoch JOIN trials USING (trial_id)
        WHERE trials.study_id = ANY (:studies)),
    (SELECT md5(string_agg(n || state, ' ' ORDER BY state)) FROM (
        SELECT state::text, count(*) || ' ' || coalesce(max(datetime_complete)::text, '') AS n FROM trials
        WHERE study_id = ANY (:studies) GROUP BY state
    ) AS states),
    (SELECT coalesce(sum(seconds), 0) FROM hpo.overhead WHERE study_id = ANY (:studies)),
    (SELECT coalesce(sum(seconds), 0) FROM hpo.cost JOIN trials USING (trial_id)
        WHERE trials.study_id = ANY (:studies)),
    (SELECT md5(string_agg(study_id || key || value_json, ' ' ORDER BY study_id, key))
        FROM study_user_attributes WHERE study_id = ANY (:studies)),
    (SELECT md5(string_agg(name, ' ' ORDER BY name)) FROM hpo.worker WHERE study = :name AND expires > now())
""")


def _readable(metrics: object) -> Metrics:
    try:
        return decode_metrics(metrics)  # type: ignore[arg-type] # checked by the call
    except Exception:  # another program may have written anything
        return {}


def _utc(time: datetime | None) -> datetime | None:
    """Return a time in UTC. Optuna's columns have no time zone, and hpo fills them with UTC."""
    if time is None:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
