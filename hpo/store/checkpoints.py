"""The newest checkpoint of each open trial: an epoch and the name of a file.

Every function is one step of the caller's transaction. None commits.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from hpo.store import schema
from hpo.store.statements import Statement, columns


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The number of trained epochs, and the name of the checkpoint's file in the study's artifact folder."""

    epoch: int
    file: str


def read(connection: Connection, trial_ids: Iterable[int]) -> dict[int, Checkpoint]:
    """Return the checkpoints by trial id. Trials without a checkpoint are left out."""
    table = schema.checkpoints
    query = select(table.c.trial_id, table.c.epoch, table.c.file)
    rows = connection.execute(query.where(table.c.trial_id.in_(list(trial_ids))))
    return {row.trial_id: Checkpoint(row.epoch, row.file) for row in rows}


def save(connection: Connection, saved: Mapping[int, Checkpoint]) -> list[str]:
    """Record checkpoints by trial id, and return the names of the files they replace.

    The caller must hold the leases of the trials.
    """
    if not saved:
        return []
    return list(SAVE_CHECKPOINTS(connection, *_columns(saved)).scalars())


SAVE_CHECKPOINTS = Statement("""
PREPARE save_checkpoints (integer[], integer[], text[]) AS
-- Record the checkpoints of trials, and return the files they replace.
-- $1: trial ids, $2: epochs, $3: file names.
-- All parts of one statement see the same snapshot, so the last part reads the files from before.
WITH written AS (
    INSERT INTO hpo.checkpoint (trial_id, epoch, file)
    SELECT * FROM unnest($1, $2, $3)
    ON CONFLICT (trial_id) DO UPDATE SET epoch = excluded.epoch, file = excluded.file
)
SELECT file FROM hpo.checkpoint WHERE trial_id = ANY ($1)
""")


def pause(connection: Connection, saved: Mapping[int, Checkpoint], worker: str, device: str) -> list[str]:
    """Set trials aside at a checkpoint, and return the names of the files that the checkpoints replace.

    The caller must hold the leases of the trials. A paused trial waits without a lease, like a new one, so
    resuming it does not count as a takeover. `worker` and `device` go into the records of the trials.
    """
    if not saved:
        return []
    return list(PAUSE_TRIALS(connection, *_columns(saved), worker, device).scalars())


PAUSE_TRIALS = Statement("""
PREPARE pause_trials (integer[], integer[], text[], text, text) AS
-- Do the same as save_checkpoints, queue the trials and delete their leases.
-- $1: trial ids, $2: epochs, $3: file names, $4: worker, $5: device.
-- A trial that was ended by something else, such as the dashboard, stays ended.
-- A trial that reached its rung alone may have pack mates again.
WITH written AS (
    INSERT INTO hpo.checkpoint (trial_id, epoch, file)
    SELECT * FROM unnest($1, $2, $3)
    ON CONFLICT (trial_id) DO UPDATE SET epoch = excluded.epoch, file = excluded.file
), waiting AS (
    UPDATE trials SET state = 'WAITING' WHERE trial_id = ANY ($1) AND state = 'RUNNING'
    RETURNING trial_id, study_id
), happened AS (
    INSERT INTO hpo.event (study_id, trial_id, worker, kind, detail)
    SELECT study_id, trial_id, $4, 'paused', jsonb_build_object('epoch', given.epoch)
    FROM waiting JOIN unnest($1, $2) AS given (trial_id, epoch) USING (trial_id)
    ORDER BY trial_id
), recorded AS (
    UPDATE hpo.trial AS record SET paused = given.epoch, worker = $4, device = $5, alone = false
    FROM unnest($1, $2) AS given (trial_id, epoch)
    WHERE record.trial_id = given.trial_id
), released AS (
    DELETE FROM hpo.lease WHERE trial_id = ANY ($1)
)
SELECT file FROM hpo.checkpoint WHERE trial_id = ANY ($1)
""")


def _columns(saved: Mapping[int, Checkpoint]) -> list[list[Any]]:
    return columns(((trial_id, c.epoch, c.file) for trial_id, c in saved.items()), 3)
