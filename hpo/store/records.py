"""What hpo records of a trial, and Optuna has no place for.

Every function is one step of the caller's transaction. None commits.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, text

from hpo.store.statements import Statement, columns
from hpo.values.epoch import VALIDATION_ACCURACY, Metrics

BATCH_ROWS = 500
"""The most rows that one statement inserts."""


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """The row of a trial in `hpo.trial`, without its traceback.

    seed: of the initial weights.
    promoted_from: number of the search trial that a full training repeats.
    forked_from: number of the original, in the study that was forked.
    paused: epoch after which the trial was paused. None unless it is paused.
    takeovers: how often another worker continued the trial after its worker was lost or had stopped.
    worker, device: of the last pause or end.
    epochs: number of trained epochs, once the trial has ended.
    kept_epoch: epoch whose weights are the result.
    metrics: metrics of the kept epoch by name. None unless hpo trained the trial to its end.
    weights: name of the file with the trained weights, in the study's artifact folder.
    reason: why the trial failed.
    alone: whether the trial gets no pack mates, because a pack with it has raised or timed out.
    retry_of: number of the failed trial that this one repeats.
    refit_of: number of the full training that this one repeats on all training images.
    limits: epochs of each phase of a refit. None of other trials.
    """

    seed: int
    promoted_from: int | None = None
    forked_from: int | None = None
    paused: int | None = None
    takeovers: int = 0
    worker: str | None = None
    device: str | None = None
    epochs: int | None = None
    kept_epoch: int | None = None
    metrics: Metrics | None = None
    weights: str | None = None
    reason: str | None = None
    alone: bool = False
    retry_of: int | None = None
    refit_of: int | None = None
    limits: tuple[int, ...] | None = None

    @property
    def is_trained(self) -> bool:
        """Whether hpo trained the trial to its end."""
        return self.metrics is not None

    @property
    def accuracy(self) -> float | None:
        """The validation accuracy at the kept epoch, as a share. None if it was not measured."""
        return None if self.metrics is None else self.metrics.get(VALIDATION_ACCURACY)


_NAMES = [field.name for field in fields(TrialRecord)]
_METRICS, _LIMITS = _NAMES.index("metrics"), _NAMES.index("limits")


def parse(values: Sequence[Any]) -> TrialRecord | None:
    """Return the record with these values, in the order of the fields. None if the trial has no record.

    Raises `ValueError` or `TypeError` if another program has written values that no record has.
    """
    if values[0] is None:
        return None
    arguments = list(values)
    if arguments[_METRICS] is not None:
        arguments[_METRICS] = decode_metrics(arguments[_METRICS])
    if arguments[_LIMITS] is not None:
        arguments[_LIMITS] = tuple(map(int, arguments[_LIMITS]))
    record = TrialRecord(*arguments)
    if (record.refit_of is None) != (record.limits is None) or min(record.limits or (1,)) < 1:
        raise ValueError(f"the limits of a refit cannot be {record.limits}")
    return record


def encode_metrics(metrics: Metrics) -> str:
    """Return metrics as JSON that keeps each bit of a number.

    JSON has no NaN and no infinities. They become text.
    """
    return json.dumps({name: v if math.isfinite(v) else str(v) for name, v in metrics.items()})


def decode_metrics(value: Mapping[str, float | str]) -> Metrics:
    """Return the metrics in the parsed JSON of `encode_metrics`."""
    return {name: float(number) for name, number in value.items()}


def insert(connection: Connection, new: Mapping[int, TrialRecord]) -> None:
    """Add the records of new trials, by trial id: their seeds, and the trials that they come from."""
    rows = [
        (trial_id, each.seed, each.promoted_from, each.retry_of, each.refit_of, _array(each.limits))
        for trial_id, each in new.items()
    ]
    for start in range(0, len(rows), BATCH_ROWS):
        INSERT_RECORDS(connection, *columns(rows[start : start + BATCH_ROWS], 6))


INSERT_RECORDS = Statement("""
PREPARE insert_records (integer[], bigint[], integer[], integer[], integer[], text[]) AS
-- Add records. $1: trial ids, $2: seeds, $3: numbers of the search trials they were promoted from, or null,
-- $4: numbers of the failed trials they repeat, or null, $5: numbers of the trainings they refit, or null,
-- $6: epochs of each phase, each an array as text, because unnest() would flatten an array of arrays.
INSERT INTO hpo.trial (trial_id, seed, promoted_from, retry_of, refit_of, limits)
SELECT trial_id, seed, promoted_from, retry_of, refit_of, CAST(limits AS integer[])
FROM unnest($1, $2, $3, $4, $5, $6)
    AS given (trial_id, seed, promoted_from, retry_of, refit_of, limits)
""")


def _array(numbers: Sequence[int] | None) -> str | None:
    """Return numbers as the text of an array in Postgres."""
    return None if numbers is None else f"{{{','.join(map(str, numbers))}}}"


def mirror(connection: Connection, trial_ids: Iterable[int]) -> None:
    """Copy records into Optuna's user attributes, for people who look there. hpo never reads them back."""
    MIRROR_RECORDS(connection, list(trial_ids))


MIRROR_RECORDS = Statement("""
PREPARE mirror_records (integer[]) AS
-- Copy the records of the trials $1 into Optuna's user attributes.
INSERT INTO trial_user_attributes (trial_id, key, value_json)
SELECT record.trial_id, attribute.key, attribute.value
FROM hpo.trial AS record
CROSS JOIN LATERAL (VALUES
    ('seed', to_json(seed)::text),
    ('promoted_from', to_json(promoted_from)::text),
    ('forked_from', to_json(forked_from)::text),
    ('retry_of', to_json(retry_of)::text),
    ('refit_of', to_json(refit_of)::text),
    ('takeovers', to_json(nullif(takeovers, 0))::text),
    ('worker', to_json(worker)::text),
    ('device', to_json(device)::text),
    ('epochs', to_json(epochs)::text),
    ('kept_epoch', to_json(kept_epoch)::text),
    ('accuracy', (metrics -> 'validation_accuracy')::text),
    ('weights', to_json(weights)::text),
    ('reason', to_json(reason)::text),
    ('traceback', to_json(traceback)::text)
) AS attribute (key, value)
WHERE record.trial_id = ANY ($1) AND attribute.value IS NOT NULL
ORDER BY record.trial_id
ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
""")


def note_refusal(connection: Connection, trial_id: int, reason: str) -> None:
    """Set Optuna's user attribute `reason` of a trial that has no record."""
    connection.execute(_NOTE_REFUSAL, {"trial_id": trial_id, "reason": reason})


_NOTE_REFUSAL = text("""
INSERT INTO trial_user_attributes (trial_id, key, value_json)
VALUES (:trial_id, 'reason', to_json(CAST(:reason AS text))::text)
ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
""")
