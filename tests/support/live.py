"""Statuses of studies that nobody has stored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hpo.store.events import Event
from hpo.study.live import BudgetUse, LiveStatus, StageEvent, StageProgress, WorkerActivity
from hpo.study.status import ACTIVITIES, Best, StageStatus, Status
from hpo.study.time_left import NONE_LEFT, TimeLeft
from hpo.values.epoch import VALIDATION_ACCURACY, VALIDATION_LOSS
from hpo.values.objective import LOSS, Objective
from hpo.values.stage import Stage

BASIS = "from the last 60 epochs of 2 workers"
BEGIN = datetime(2026, 1, 2, 3, 4, 5).astimezone()


def stage_status(budget: int = 16, best: Best | None = None, **changes: Any) -> StageStatus:
    """Return the status of a stage. `changes`: states by name, such as `RUNNING=3`, and other fields."""
    names = ("COMPLETE", "FAIL", "PRUNED", "RUNNING", "WAITING")
    states = {name: changes.pop(name, 0) for name in names}
    fields: dict[str, Any] = {
        "retried": 0,
        "paused": 0,
        "distinct_cells": 0,
        "device_seconds": 0.0,
        "activities": dict.fromkeys(ACTIVITIES, 0.0),
        "trial_seconds": {},
        "stopped": None,
    }
    return StageStatus(budget=budget, states=states, best=best, **fields | changes)


def best(trial: int = 14, value: float = 0.25724) -> Best:
    """Return a best trial."""
    params = {"lr": 0.03125, "batch_size": 32, "momentum": 0.9}
    return Best(trial, value, params, 0.9271, {VALIDATION_LOSS: value, VALIDATION_ACCURACY: 0.9271})


def live_of(
    search: StageStatus, full: StageStatus | None = None, objective: Objective = LOSS, **changes: Any
) -> LiveStatus:
    """Return a live status with these stages. `changes`: other fields of `LiveStatus`."""
    return LiveStatus(
        Status("digits", "f", objective, search, full or stage_status(budget=4), ()),
        StageProgress(BudgetUse(62, 96, "epochs"), 62, 0.646, TimeLeft(40, 36, 44, BASIS)),
        StageProgress(BudgetUse(0, 4, "trials"), 0, 0.0, TimeLeft(400, 240, 500, BASIS)),
        TimeLeft(440, 276, 544, BASIS),
        **changes,
    )


def running() -> LiveStatus:
    """Return a study in the middle of its search, with three workers and a few events."""
    search = stage_status(best=best(), COMPLETE=2, FAIL=1, PRUNED=3, RUNNING=3, WAITING=7, paused=5)
    workers = [
        WorkerActivity("cpu/0-0123abcd", "cpu", "search", (3, 7, 11, 12, 15), (2, 4), 3.0, 12345.6),
        WorkerActivity("cpu/1-4567ef01", "cpu", "search", (5,), (8, 8), 1.5, 6123.0, quiet_seconds=130.0),
        WorkerActivity("host-1234", "cuda:0"),
    ]
    happened: list[tuple[int, Any, Mapping[str, Any]]] = [
        (3, "claimed", {}),
        (4, "claimed", {}),
        (9, "pruned", {"epochs": 4}),
        (5, "paused", {"epoch": 2}),
        (7, "failed", {"reason": "epoch 3: validation_loss is nan"}),
    ]
    return live_of(search, workers=workers, events=events_of("search", happened))


def finished() -> LiveStatus:
    """Return a finished study."""
    search = stage_status(best=best(), COMPLETE=2, PRUNED=14)
    full = stage_status(budget=2, best=best(1, 0.05), COMPLETE=2)
    done = StageProgress(BudgetUse(16, 16, "trials"), 50, 1.0, NONE_LEFT)
    trained = StageProgress(BudgetUse(2, 2, "trials"), 61, 1.0, NONE_LEFT)
    return replace(live_of(search, full), search=done, full=trained, left=NONE_LEFT)


def events_of(stage: Stage, happened: Sequence[tuple[int, Any, Mapping[str, Any]]]) -> list[StageEvent]:
    """Return events of a stage, a second apart: number of the trial, kind, detail."""
    return [
        StageEvent(stage, Event(BEGIN + timedelta(seconds=i), 1, trial, "cpu/0-0123abcd", kind, detail))
        for i, (trial, kind, detail) in enumerate(happened)
    ]
