"""Leases: the right of one worker to one running trial, until a time by the database's clock.

Every function is one step of the caller's transaction. None commits. A write about a running trial goes
through `hold`, which renews the lease and locks its row until the transaction ends. So a worker that lost its
lease can write nothing, not even while another worker takes the trial over.

Transactions lock leases in the order of the trial ids, so two that want the same rows cannot deadlock.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hpo.store.checkpoints import Checkpoint
from hpo.store.statements import Statement, columns


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to one running trial. It holds while `token` is the one in the table."""

    trial_id: int
    token: int


def grant(
    connection: Connection, trial_ids: Iterable[int], worker: str, seconds: float
) -> dict[int, tuple[Lease, Checkpoint | None]]:
    """Lease waiting trials to `worker`. Return each lease, and the checkpoint to resume from, by trial id.

    A former holder is fenced off by the new token. The study must be locked, and the trials must be claimable
    or paused.
    """
    rows = GRANT_LEASES(connection, sorted(trial_ids), worker, seconds)
    return {
        trial_id: (Lease(trial_id, token), None if file is None else Checkpoint(epoch, file))
        for trial_id, token, epoch, file in rows
    }


GRANT_LEASES = Statement("""
PREPARE grant_leases (integer[], text, double precision) AS
-- Lease the trials $1, in ascending order, to worker $2 for $3 seconds, and resume those that are paused.
-- The sequence gives a token higher than all before it, which fences off a former holder.
WITH given AS (
    SELECT given.trial_id, trials.study_id, record.paused, lease.trial_id IS NOT NULL AS has_lease
    FROM unnest($1) AS given (trial_id)
    JOIN trials USING (trial_id)
    LEFT JOIN hpo.trial AS record USING (trial_id)
    LEFT JOIN hpo.lease USING (trial_id)
), begun AS (
    UPDATE trials
    SET state = 'RUNNING', datetime_start = coalesce(datetime_start, timezone('utc', now()))
    WHERE trial_id IN (SELECT trial_id FROM given) AND state = 'WAITING'
), recorded AS (
    -- A trial that has a lease already is taken over.
    UPDATE hpo.trial AS record SET paused = NULL, takeovers = takeovers + has_lease::integer
    FROM given
    WHERE record.trial_id = given.trial_id AND (given.paused IS NOT NULL OR has_lease)
), happened AS (
    INSERT INTO hpo.event (study_id, trial_id, worker, kind, detail)
    SELECT study_id, trial_id, $2,
        CASE WHEN has_lease THEN 'taken over' WHEN paused IS NOT NULL THEN 'resumed' ELSE 'claimed' END,
        jsonb_strip_nulls(jsonb_build_object('epoch', checkpoint.epoch))
    FROM given LEFT JOIN hpo.checkpoint USING (trial_id)
    ORDER BY trial_id
), leased AS (
    INSERT INTO hpo.lease (trial_id, worker, token, seconds, expires, durable)
    SELECT trial_id, $2, nextval('hpo.token'), $3, now() + make_interval(secs => $3), coalesce(epoch, 0)
    FROM given LEFT JOIN hpo.checkpoint USING (trial_id)
    ORDER BY trial_id
    ON CONFLICT (trial_id) DO UPDATE SET
        worker = excluded.worker, token = excluded.token, seconds = excluded.seconds,
        expires = excluded.expires, durable = excluded.durable
    RETURNING trial_id, token
)
SELECT trial_id, token, epoch, file
FROM leased LEFT JOIN hpo.checkpoint USING (trial_id)
""")


def hold(connection: Connection, leases: Iterable[Lease]) -> set[int]:
    """Renew the leases and lock their rows. Return the ids of the trials that are still held.

    A trial that was ended by something else, such as the dashboard, is not held any more.
    """
    tokens = [(lease.trial_id, lease.token) for lease in leases]
    if not tokens:
        return set()
    return set(RENEW_LEASES(connection, *columns(tokens, 2)).scalars())


RENEW_LEASES = Statement("""
PREPARE renew_leases (integer[], bigint[]) AS
-- Renew the leases that are still held, and lock their rows until the transaction ends.
-- $1: trial ids, $2: tokens.
-- After a wait for a row Postgres checks the columns of the lease again, but not the state of the trial.
-- So a lease that was reaped during the wait is recognised by its lack of a worker.
WITH held AS (
    SELECT lease.trial_id
    FROM hpo.lease JOIN trials USING (trial_id)
    WHERE trials.state = 'RUNNING'
        AND (lease.trial_id, lease.token) IN (SELECT * FROM unnest($1, $2))
        AND lease.worker IS NOT NULL
    ORDER BY lease.trial_id
    FOR UPDATE OF lease
)
UPDATE hpo.lease
SET expires = now() + make_interval(secs => seconds)
FROM held
WHERE lease.trial_id = held.trial_id
RETURNING lease.trial_id
""")


def reap(connection: Connection, study_id: int) -> list[int]:
    """Put the study's trials with an expired lease back into the queue, and return their ids.

    The former holders lose the trials. A holder that is writing at this moment is alive: its row is locked,
    and the trial is skipped. After a start of the server every lease gets its full time once more, because
    nobody could renew while the server was away.
    """
    lost = list(LOCK_EXPIRED_LEASES(connection, study_id).scalars())
    if lost:
        connection.execute(_PUT_BACK_LOST, {"ids": lost})
    return lost


LOCK_EXPIRED_LEASES = Statement("""
PREPARE lock_expired_leases (integer) AS
-- Lock the expired leases of the running trials of study $1.
-- Also delete leases and checkpoints of trials that were ended by something else, such as the dashboard.
WITH stale_checkpoints AS (
    DELETE FROM hpo.checkpoint USING trials
    WHERE trials.trial_id = checkpoint.trial_id
        AND trials.study_id = $1 AND trials.state NOT IN ('WAITING', 'RUNNING')
), stale_leases AS (
    DELETE FROM hpo.lease USING trials
    WHERE trials.trial_id = lease.trial_id
        AND trials.study_id = $1 AND trials.state NOT IN ('WAITING', 'RUNNING')
)
SELECT lease.trial_id
FROM hpo.lease JOIN trials USING (trial_id)
WHERE trials.state = 'RUNNING'
    AND trials.study_id = $1
    -- 0 marks a lease whose worker is known to be dead.
    AND (lease.expires = to_timestamp(0) OR now() >=
        greatest(lease.expires, pg_postmaster_start_time() + make_interval(secs => lease.seconds)))
    -- Another transaction may have reaped the lease since the snapshot; Postgres checks this column again.
    AND lease.worker IS NOT NULL
ORDER BY lease.trial_id
FOR UPDATE OF lease SKIP LOCKED
""")

_PUT_BACK_LOST = text("""
-- Put trials back into the queue, and take them away from their workers.
-- Add one loss; restart at 1 if the trial has a newer checkpoint than when it was leased.
-- A trial that was ended by something else, such as the dashboard, stays ended.
WITH queued AS (
    UPDATE trials SET state = 'WAITING' WHERE trial_id = ANY (:ids) AND state = 'RUNNING'
    RETURNING trial_id, study_id
), happened AS (
    INSERT INTO hpo.event (study_id, trial_id, worker, kind)
    SELECT study_id, trial_id, lease.worker, 'lost' FROM queued JOIN hpo.lease USING (trial_id)
    ORDER BY trial_id
)
UPDATE hpo.lease SET worker = NULL, losses =
    CASE WHEN coalesce((SELECT epoch FROM hpo.checkpoint WHERE trial_id = lease.trial_id), 0) > durable
    THEN 1 ELSE losses + 1 END
WHERE trial_id = ANY (:ids)
""")


def any_lost(connection: Connection, study_id: int, losses: int) -> bool:
    """Return whether a begun trial of the study has no worker, or an expired lease.

    Only trials that may join a pack count: with fewer than `losses` losses in a row, and not marked to run
    alone.
    """
    is_lost: bool = connection.execute(_ANY_LOST, {"study": study_id, "losses": losses}).scalar_one()
    return is_lost


_ANY_LOST = text("""
-- The lease is expired by the same rule as in lock_expired_leases.
SELECT EXISTS (
    SELECT FROM hpo.lease JOIN trials USING (trial_id) LEFT JOIN hpo.trial AS record USING (trial_id)
    WHERE trials.study_id = :study AND lease.losses < :losses AND record.alone IS NOT TRUE
        AND (trials.state = 'WAITING' OR trials.state = 'RUNNING'
            AND (lease.expires = to_timestamp(0) OR now() >=
                greatest(lease.expires, pg_postmaster_start_time() + make_interval(secs => lease.seconds))))
)
""")


def release(connection: Connection, leases: Iterable[Lease]) -> None:
    """Put the trials back into the queue, for a worker that stops before they are finished."""
    connection.execute(_PUT_BACK_RELEASED, {"ids": list(hold(connection, leases))})


_PUT_BACK_RELEASED = text("""
-- Put trials back into the queue, and take them away from their workers.
-- Reset the losses of trials with a newer checkpoint than when they were leased.
WITH queued AS (
    UPDATE trials SET state = 'WAITING' WHERE trial_id = ANY (:ids) AND state = 'RUNNING'
    RETURNING trial_id, study_id
), happened AS (
    INSERT INTO hpo.event (study_id, trial_id, worker, kind)
    SELECT study_id, trial_id, lease.worker, 'released' FROM queued JOIN hpo.lease USING (trial_id)
    ORDER BY trial_id
)
UPDATE hpo.lease SET worker = NULL, losses =
    CASE WHEN coalesce((SELECT epoch FROM hpo.checkpoint WHERE trial_id = lease.trial_id), 0) > durable
    THEN 0 ELSE losses END
WHERE trial_id = ANY (:ids)
""")


def revoke(connection: Connection, study_id: int) -> None:
    """End all leases of a study that is locked. Once this returns, no worker writes about its trials."""
    ids = list(connection.execute(_LOCK_OF_STUDY, {"study": study_id}).scalars())
    connection.execute(text("DELETE FROM hpo.lease WHERE trial_id = ANY (:ids)"), {"ids": ids})


_LOCK_OF_STUDY = text("""
SELECT lease.trial_id
FROM hpo.lease JOIN trials USING (trial_id)
WHERE trials.state = 'RUNNING' AND trials.study_id = :study
ORDER BY lease.trial_id
FOR UPDATE OF lease
""")


def expire(connection: Connection, worker: str) -> None:
    """Let the leases of a worker that is known to be dead expire at once."""
    connection.execute(_EXPIRE, {"ids": list(lock_of_worker(connection, worker))})


def lock_of_worker(connection: Connection, worker: str) -> dict[int, int]:
    """Lock the leases of a worker until the transaction ends; return numbers of trials by trial id."""
    rows = connection.execute(_LOCK_OF_WORKER, {"worker": worker})
    return {row.trial_id: row.number for row in rows}


_LOCK_OF_WORKER = text("""
SELECT lease.trial_id, trials.number
FROM hpo.lease JOIN trials USING (trial_id)
WHERE trials.state = 'RUNNING' AND lease.worker = :worker
ORDER BY lease.trial_id
FOR UPDATE OF lease
""")
_EXPIRE = text("UPDATE hpo.lease SET expires = to_timestamp(0) WHERE trial_id = ANY (:ids)")


def losses(connection: Connection, trial_ids: Iterable[int]) -> dict[int, int]:
    """Return, by trial id, how many times in a row a trial lost its worker without a new checkpoint.

    Trials that were never leased are left out.
    """
    ids = list(trial_ids)
    if not ids:
        return {}
    rows = connection.execute(_LOSSES, {"ids": ids})
    return {row.trial_id: row.losses for row in rows}


_LOSSES = text("SELECT trial_id, losses FROM hpo.lease WHERE trial_id = ANY (:ids)")
