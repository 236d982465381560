"""Device seconds: of each trial, and of a study for worker time that belongs to no trial.

Every function is one step of the caller's transaction. None commits.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, text

from hpo.store.statements import Statement, columns


def record_delivery(connection: Connection, worker: str, number: int) -> bool:
    """Record the number of a worker's report, and return whether it is new. The numbers of a worker rise.

    A connection may die after a commit and before the answer. The worker then sends the whole report again.
    Call this before any write that adds to a sum, and skip the write if the report is not new.
    """
    return RECORD_DELIVERY(connection, worker, number).first() is not None


RECORD_DELIVERY = Statement("""
PREPARE record_delivery (text, bigint) AS
-- Record report $2 of worker $1. No row comes back if that report, or a later one, is on record.
INSERT INTO hpo.delivery (worker, number) VALUES ($1, $2)
ON CONFLICT (worker) DO UPDATE SET number = excluded.number WHERE delivery.number < excluded.number
RETURNING number
""")


def charge(connection: Connection, seconds: Mapping[int, Mapping[str, float]]) -> None:
    """Add device seconds, by trial id and activity. Trials that were deleted are left out."""
    rows = [
        (trial_id, activity, spent)
        for trial_id, activities in seconds.items()
        for activity, spent in activities.items()
    ]
    if rows:
        CHARGE_TRIALS(connection, *columns(rows, 3))


CHARGE_TRIALS = Statement("""
PREPARE charge_trials (integer[], text[], double precision[]) AS
-- Add device seconds to trials that still exist.
-- $1: trial ids, $2: activities, $3: seconds.
-- Rows are locked in the same order everywhere, so two statements that add to the same rows cannot deadlock.
WITH given AS (
    SELECT * FROM unnest($1, $2, $3) AS given (trial_id, activity, seconds)
), present AS (
    SELECT trial_id FROM trials WHERE trial_id IN (SELECT trial_id FROM given)
    ORDER BY trial_id
    FOR KEY SHARE
)
INSERT INTO hpo.cost (trial_id, activity, seconds)
SELECT trial_id, activity, seconds FROM given WHERE trial_id IN (SELECT trial_id FROM present)
ORDER BY trial_id, activity, seconds
ON CONFLICT (trial_id, activity) DO UPDATE SET seconds = cost.seconds + excluded.seconds
""")


def charge_study(connection: Connection, study_id: int, seconds: Mapping[str, float]) -> None:
    """Add device seconds of a study that belong to no trial, by activity.

    Nothing is added if the study has been deleted.
    """
    if connection.execute(_LOCK_STUDY, {"study": study_id}).first() is None:
        return
    if seconds:
        activities, spent = columns(sorted(seconds.items()), 2)
        values = {"study": study_id, "activities": activities, "seconds": spent}
        connection.execute(_CHARGE_STUDY, values)


_LOCK_STUDY = text("SELECT study_id FROM studies WHERE study_id = :study FOR KEY SHARE")
_CHARGE_STUDY = text("""
INSERT INTO hpo.overhead (study_id, activity, seconds)
SELECT :study, * FROM unnest(CAST(:activities AS text[]), CAST(:seconds AS double precision[]))
ON CONFLICT (study_id, activity) DO UPDATE SET seconds = overhead.seconds + excluded.seconds
""")


def device_seconds(connection: Connection, study_id: int) -> dict[str, float]:
    """Return the device seconds of a study by activity, including seconds that belong to no trial."""
    rows = connection.execute(_DEVICE_SECONDS, {"study": study_id})
    return {row.activity: row.seconds for row in rows}


_DEVICE_SECONDS = text("""
SELECT activity, sum(seconds) AS seconds
FROM (
    SELECT activity, seconds FROM hpo.cost JOIN trials USING (trial_id) WHERE trials.study_id = :study
    UNION ALL
    SELECT activity, seconds FROM hpo.overhead WHERE study_id = :study
) AS spent
GROUP BY activity
""")


def trial_seconds(connection: Connection, study_id: int) -> dict[int, dict[str, float]]:
    """Return the device seconds of each trial by activity, by the number of the trial."""
    by_number: dict[int, dict[str, float]] = {}
    for row in connection.execute(_TRIAL_SECONDS, {"study": study_id}):
        by_number.setdefault(row.number, {})[row.activity] = row.seconds
    return by_number


_TRIAL_SECONDS = text("""
SELECT trials.number, activity, seconds
FROM hpo.cost JOIN trials USING (trial_id)
WHERE trials.study_id = :study
""")
