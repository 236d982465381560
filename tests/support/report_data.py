"""Studies for reports, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from optuna.trial import TrialState

from hpo.report.study_data import StudyData
from hpo.spec.study_spec import StudySpec
from hpo.store.events import Event, Kind
from hpo.store.histories import RecordedEpoch, TrialTimes
from hpo.store.records import TrialRecord
from hpo.store.trials import TrialRow
from hpo.study.history import StudyHistory, TrialHistory
from hpo.study.study import Study
from hpo.values.epoch import VALIDATION_LOSS_ERROR
from hpo.values.objective import LOSS, Objective
from hpo.values.stage import Stage
from support.study_file import load

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
POINT = {"lr": 1e-3, "batch_size": 16, "momentum": 0.5, "weight_decay": 0}


def at(seconds: float) -> datetime:
    """Return a time after the start of the study."""
    return START + timedelta(seconds=seconds)


def trial(
    number: int,
    values: Sequence[float],
    state: TrialState = TrialState.COMPLETE,
    stage: Stage = "search",
    **changes: Any,
) -> TrialHistory:
    """Return a trial with these values of the objective by epoch. Trial n begins after 10 n seconds.

    `changes`: `point`, `error` of each epoch, `objective`, and fields of the record.
    """
    objective: Objective = changes.pop("objective", LOSS)
    error = changes.pop("error", None)
    point = {**POINT, **changes.pop("point", {})}
    errors = {} if error is None else {objective.error_key or VALIDATION_LOSS_ERROR: error}
    metrics = [{objective.key: value, **errors} for value in values]
    is_finished = state.is_finished()
    record = TrialRecord(
        seed=number,
        epochs=len(values) if is_finished else None,
        kept_epoch=len(values) or None,
        metrics=metrics[-1] if metrics and is_finished and state != TrialState.FAIL else None,
        worker="cpu/0",
        device="cpu",
    )
    begin = 10.0 * number
    curve = [
        RecordedEpoch(epoch, each, "cpu/0", 2.0, at(begin + 2 * epoch))
        for epoch, each in enumerate(metrics, start=1)
    ]
    ended = at(begin + 2 * len(values)) if is_finished else None
    times = TrialTimes(at(begin), ended, len(values), 2.0 * len(values))
    has_value = bool(values) and is_finished and state != TrialState.FAIL
    row = TrialRow(
        trial_id=number + (1000 if stage == "full" else 0),
        number=number,
        state=state,
        point=point,
        record=replace(record, **changes),
        value=values[-1] if has_value else None,
    )
    return TrialHistory(stage, row, times, curve=curve)


def event(seconds: float, trial: int, kind: Kind, worker: str | None = "cpu/0", **detail: Any) -> Event:
    """Return an event of a search trial."""
    return Event(at(seconds), 1, trial, worker, kind, detail)


def study_data(trials: Sequence[TrialHistory], spec: StudySpec | None = None, **changes: Any) -> StudyData:
    """Return a study with these trials. `changes`: fields of `StudyData`; `events` are of the search."""
    study = Study(spec or load(), 1, 2, "0123abcd", "fingerprint", inherited=changes.pop("inherited", 0))
    events: Sequence[Event] = changes.pop("events", ())
    return StudyData(
        study=study,
        history=StudyHistory(trials, changes.pop("foreign", ())),
        now=at(1000),
        events=[("search", event) for event in events],
        **changes,
    )
