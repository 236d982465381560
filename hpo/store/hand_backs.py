"""Trials of packs that failed: they go back into the queue, each to run alone.

Every function is one step of the caller's transaction. None commits.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, text


def hand_back(connection: Connection, trial_ids: Iterable[int], reason: str) -> None:
    """Put the trials of a pack that failed for this reason back into the queue, each to run alone.

    The caller must hold their leases.
    """
    connection.execute(_HAND_BACK, {"ids": list(trial_ids), "reason": reason})


_HAND_BACK = text("""
-- Do the same as for released trials, and mark them.
WITH queued AS (
    UPDATE trials SET state = 'WAITING' WHERE trial_id = ANY (:ids) AND state = 'RUNNING'
    RETURNING trial_id, study_id
), happened AS (
    INSERT INTO hpo.event (study_id, trial_id, worker, kind, detail)
    SELECT study_id, trial_id, lease.worker, 'handed back',
        jsonb_build_object('reason', CAST(:reason AS text))
    FROM queued JOIN hpo.lease USING (trial_id)
    ORDER BY trial_id
), marked AS (
    UPDATE hpo.trial SET alone = true WHERE trial_id = ANY (:ids)
)
UPDATE hpo.lease SET worker = NULL, losses =
    CASE WHEN coalesce((SELECT epoch FROM hpo.checkpoint WHERE trial_id = lease.trial_id), 0) > durable
    THEN 0 ELSE losses END
WHERE trial_id = ANY (:ids)
""")


def forget(connection: Connection, study_id: int) -> None:
    """Let the begun trials of a study that no worker has wait like new ones. The study must be locked."""
    connection.execute(_FORGET, {"study": study_id})


_FORGET = text("""
DELETE FROM hpo.lease USING trials
WHERE trials.trial_id = lease.trial_id AND trials.study_id = :study AND trials.state = 'WAITING'
""")


def allow_mates(connection: Connection, study_id: int) -> None:
    """Let the waiting trials of a study share packs again. The study must be locked."""
    connection.execute(_ALLOW_MATES, {"study": study_id})


_ALLOW_MATES = text("""
UPDATE hpo.trial AS record SET alone = false FROM trials
WHERE trials.trial_id = record.trial_id AND trials.study_id = :study AND trials.state = 'WAITING' AND alone
""")
