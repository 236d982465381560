"""What happened to the trials of a study.

Most events are written by the statement that makes the change, so they cost no statement of their own.
Every function is one step of the caller's transaction. None commits.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Connection, text

Kind = Literal[
    "claimed",
    "resumed",
    "taken over",
    "paused",
    "released",
    "handed back",
    "lost",
    "completed",
    "pruned",
    "failed",
    "promoted",
    "tested",
    "exported",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a trial.

    kind          the worker, and the detail
    claimed       that began the trial
    resumed       that continues a paused trial; `epoch` of its checkpoint
    taken over    that continues a lost or released trial; `epoch` of its checkpoint, if there is one
    paused        that set the trial aside; `epoch`
    released      that stopped, and put the trial back into the queue
    handed back   whose pack failed; `reason`. The trial runs alone next
    lost          whose lease has expired
    completed     that trained the trial; number of trained `epochs`
    pruned        that trained the trial, None for a paused trial at the end of a search; `epochs`
    failed        that trained the trial, None if no worker had it; `reason`
    promoted      None; numbers of its `full` trainings
    tested        None; numbers of the `trials` of a model, its `shifts`, and the number `n` of test examples
    exported      None; `directory` of the bundle, `trials` and `shifts` as above

    A model is tested once its event is written: who dies while it is scored may have seen the result.

    `trial` is the number of the trial. `study_id` tells the stages of a study apart.
    """

    at: datetime
    study_id: int
    trial: int
    worker: str | None
    kind: Kind
    detail: Mapping[str, Any]


def record(connection: Connection, study_id: int, trial: int, kind: Kind, detail: Mapping[str, Any]) -> None:
    """Record an event of a trial, by its number."""
    values = {"study": study_id, "trial": trial, "kind": kind, "detail": json.dumps(detail)}
    connection.execute(_RECORD, values)


_RECORD = text("""
INSERT INTO hpo.event (study_id, trial_id, kind, detail)
SELECT study_id, trial_id, :kind, CAST(:detail AS jsonb)
FROM trials WHERE study_id = :study AND number = :trial
""")


def read(connection: Connection, study_ids: Collection[int], kinds: Collection[Kind] = ()) -> list[Event]:
    """Return the events of these Optuna studies, in the order in which they happened.

    `kinds`: of these kinds alone, if any are given.
    """
    values = {"studies": list(study_ids), "kinds": list(kinds or get_args(Kind))}
    return [_event(*row) for row in connection.execute(_READ, values)]


_READ = text("""
SELECT at, event.study_id, trials.number, worker, kind, detail
FROM hpo.event JOIN trials USING (trial_id)
WHERE event.study_id = ANY (:studies) AND kind = ANY (:kinds)
ORDER BY event_id
""")


def latest(connection: Connection, study_ids: Collection[int], count: int) -> list[Event]:
    """Return the last `count` events of these Optuna studies, in the order in which they happened."""
    rows = connection.execute(_LATEST, {"studies": list(study_ids), "count": count})
    return [_event(*row) for row in reversed(rows.all())]


_LATEST = text("""
-- The newest of each study come from its index, so the time does not grow with the study.
SELECT event.at, event.study_id, trials.number, event.worker, event.kind, event.detail
FROM unnest(CAST(:studies AS integer[])) AS given (study_id), LATERAL (
    SELECT * FROM hpo.event WHERE event.study_id = given.study_id ORDER BY event_id DESC LIMIT :count
) AS event JOIN trials USING (trial_id)
ORDER BY event.event_id DESC
LIMIT :count
""")


def _event(at: datetime, study_id: int, trial: int, *rest: Any) -> Event:
    """Return the event of a row, whose detail another program may have written as anything."""
    worker, kind, detail = rest
    return Event(at, study_id, trial, worker, kind, detail if isinstance(detail, dict) else {})
