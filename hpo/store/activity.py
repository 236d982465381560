"""What the workers of a study do at this moment: the trials that they hold, and the epochs recorded last.

Every function is one step of the caller's transaction. None commits.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from hpo.store.statements import Statement

RECENT_EPOCHS = 400
"""Most epochs that `recent_epochs` returns."""


@dataclass(frozen=True, slots=True)
class RecentEpoch:
    """An epoch that was recorded `age` seconds ago.

    `trial` is a number in the Optuna study `study_id`. `seconds` are the trial's share of the device seconds.
    """

    study_id: int
    trial: int
    epoch: int
    worker: str
    seconds: float
    age: float


def recent_epochs(connection: Connection, study_ids: Collection[int]) -> list[RecentEpoch]:
    """Return the epochs of these Optuna studies that were recorded last, oldest first."""
    rows = READ_RECENT_EPOCHS(connection, list(study_ids), RECENT_EPOCHS)
    return [RecentEpoch(*row) for row in reversed(rows.all())]


READ_RECENT_EPOCHS = Statement("""
PREPARE read_recent_epochs (integer[], integer) AS
-- Read the $2 epochs of the studies $1 that were recorded last, the newest first.
-- Only trials with a recent event or a lease have such epochs, so the time does not grow with the study.
WITH recent AS (
    SELECT trial_id
    FROM unnest($1) AS given (study_id), LATERAL (
        SELECT trial_id FROM hpo.event WHERE event.study_id = given.study_id ORDER BY event_id DESC LIMIT $2
    ) AS event
    UNION
    SELECT trial_id FROM hpo.lease WHERE worker IS NOT NULL
)
SELECT trials.study_id, trials.number, epoch.epoch, epoch.worker, epoch.seconds,
    greatest(0, extract(epoch FROM clock_timestamp() - epoch.at))::double precision AS age
FROM recent JOIN trials USING (trial_id), LATERAL (
    SELECT epoch, worker, seconds, at FROM hpo.epoch
    WHERE epoch.trial_id = trials.trial_id
    ORDER BY epoch DESC LIMIT $2
) AS epoch
WHERE trials.study_id = ANY ($1) AND epoch.worker IS NOT NULL AND epoch.seconds IS NOT NULL
    AND epoch.at IS NOT NULL
ORDER BY epoch.at DESC, trials.number DESC
LIMIT $2
""")


def held_trials(connection: Connection, study_ids: Collection[int]) -> dict[str, list[tuple[int, int]]]:
    """Return the running trials of each worker by name: Optuna study and number of the trial."""
    by_worker: dict[str, list[tuple[int, int]]] = {}
    for worker, study_id, number in READ_HELD_TRIALS(connection, list(study_ids)):
        by_worker.setdefault(worker, []).append((study_id, number))
    return by_worker


READ_HELD_TRIALS = Statement("""
PREPARE read_held_trials (integer[]) AS
-- Read the running trials of the studies $1 with their workers.
SELECT lease.worker, trials.study_id, trials.number
FROM hpo.lease JOIN trials USING (trial_id)
WHERE trials.study_id = ANY ($1) AND trials.state = 'RUNNING' AND lease.worker IS NOT NULL
ORDER BY lease.worker, trials.study_id, trials.number
""")
