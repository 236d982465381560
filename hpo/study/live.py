"""A study at this moment: how much of its budget is used, how long it takes, and what its workers do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.store import activity, events, results
from hpo.store.activity import RecentEpoch
from hpo.store.connection import Storage
from hpo.store.events import Event
from hpo.study.status import StageStatus, Status, read_status
from hpo.study.study import Study
from hpo.study.time_left import NONE_LEFT, Pace, TimeLeft, estimate, paces, together
from hpo.study.work import full_scale, full_work, search_work
from hpo.values.stage import STAGES, Stage

EVENTS = 20
"""The number of last events that are read."""

HOUR = 3600.0

Unit = Literal["epochs", "device hours", "trials"]


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """How much of the budget of a stage is used.

    A search with `stop.epochs` has a budget of epochs, another one with `stop.device_hours` one of device
    hours. Otherwise it is the number of trials: a search trial counts once it is paused or has ended.
    """

    used: float
    total: float
    unit: Unit


@dataclass(frozen=True, slots=True)
class StageProgress:
    """How far a stage is.

    `epochs` are all that its trials have trained. `share`, from 0 to 1, is how much of the budget is used,
    where a full training counts by its epochs. `left` is the time that the stage still takes.
    """

    budget: BudgetUse
    epochs: int
    share: float
    left: TimeLeft


@dataclass(frozen=True, slots=True)
class WorkerActivity:
    """What a worker does.

    `stage` and `trials` are those that it holds, `epochs` the least and the most trained epochs of these
    trials. `images_per_second` is None where the number of training images is not known.
    """

    name: str
    device: str
    stage: Stage | None = None
    trials: tuple[int, ...] = ()
    epochs: tuple[int, int] | None = None
    epochs_per_second: float | None = None
    images_per_second: float | None = None
    quiet_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StageEvent:
    """An event of a study, and the stage of its trial."""

    stage: Stage
    event: Event

    def to_json(self) -> dict[str, Any]:
        """Return the event as plain values."""
        event = self.event
        return {
            "time": event.at.isoformat(),
            "stage": self.stage,
            "trial": event.trial,
            "worker": event.worker,
            "kind": event.kind,
            "detail": event.detail,
        }


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """The status of a study, and what happens in it."""

    status: Status
    search: StageProgress
    full: StageProgress
    left: TimeLeft
    workers: Sequence[WorkerActivity] = ()
    events: Sequence[StageEvent] = field(default=())

    @property
    def is_over(self) -> bool:
        """Whether no worker of the study has anything to do."""
        search, full = self.status.search, self.status.full
        is_quiet = not search.begun and not full.begun and not self.workers
        return is_quiet and all(not stage.open or stage.stopped is not None for stage in (search, full))

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        plain = self.status.to_json()
        for stage, progress in (("search", self.search), ("full", self.full)):
            plain[stage]["progress"] = asdict(progress)
        plain["workers"] = [
            {**status, **{key: value for key, value in asdict(worker).items() if key not in status}}
            for status, worker in zip(plain["workers"], self.workers, strict=True)
        ]
        return {**plain, "left": asdict(self.left), "events": [event.to_json() for event in self.events]}


def live_status(storage: Storage, study: Study, images: Mapping[Stage, int] | None = None) -> LiveStatus:
    """Return the status of a study with its progress, from one transaction.

    `images`: the number of training images of each stage, where it is known. Changes what `status` changes.
    """
    with storage.transaction() as connection:
        status = read_status(connection, study)
        study_ids = {study.study_id(stage): stage for stage in STAGES}
        recent = activity.recent_epochs(connection, study_ids)
        held = activity.held_trials(connection, study_ids)
        last = events.latest(connection, study_ids, EVENTS)
        trained = {stage: _trained(connection, study, stage) for stage in STAGES}
    by_stage = {stage: paces([e for e in recent if study_ids[e.study_id] == stage]) for stage in STAGES}
    search = _search(study, status, trained["search"], by_stage)
    full = _full(study, status, trained["full"], by_stage)
    left = together(search.left, full.left)
    workers = [
        _worker(name, device, quiet, held.get(name, ()), study_ids)
        for name, device, quiet in ((w.name, w.device, w.quiet_seconds) for w in status.workers)
    ]
    workers = [_with_pace(worker, by_stage, trained, images or {}) for worker in workers]
    shown = [StageEvent(study_ids[event.study_id], event) for event in last]
    return LiveStatus(status, search, full, left, workers, shown)


def _trained(connection: Connection, study: Study, stage: Stage) -> dict[int, tuple[TrialState, int]]:
    inherited = study.inherited if stage == "search" else 0
    return results.trained_epochs(connection, study.study_id(stage), inherited)


Trained = Mapping[int, tuple[TrialState, int]]
Paces = Mapping[Stage, Mapping[str, Pace]]


def _search(study: Study, status: Status, trained: Trained, by_stage: Paces) -> StageProgress:
    figures, spec = status.search, study.spec
    epochs = sum(count for _, count in trained.values())
    if spec.stop.epochs is not None:
        budget = BudgetUse(epochs, spec.stop.epochs, "epochs")
    elif spec.stop.device_hours is not None:
        budget = BudgetUse(figures.device_seconds / HOUR, spec.stop.device_hours, "device hours")
    else:
        budget = BudgetUse(figures.finished + figures.paused, figures.budget, "trials")
    if _is_finished(figures):
        return StageProgress(budget, epochs, 1.0, NONE_LEFT)
    work = search_work(study, figures, trained)
    live = {worker.name: by_stage["search"].get(worker.name) for worker in status.workers}
    left = estimate(work, live)
    if spec.stop.device_hours is not None and left.seconds is not None and live:
        limit = max(0.0, spec.stop.device_hours * HOUR - figures.device_seconds) / len(live)
        left = left.capped(limit)
    return StageProgress(budget, epochs, min(1.0, budget.used / budget.total), left)


def _full(study: Study, status: Status, trained: Trained, by_stage: Paces) -> StageProgress:
    figures, most = status.full, study.spec.budget("full").epochs
    epochs = sum(count for _, count in trained.values())
    budget = BudgetUse(figures.finished, figures.budget, "trials")
    if figures.present and _is_finished(figures):
        return StageProgress(budget, epochs, 1.0, NONE_LEFT)
    done = sum(1.0 if state.is_finished() else count / most for state, count in trained.values())
    live = {worker.name: by_stage["full"].get(worker.name) for worker in status.workers}
    scale = 1.0
    if not any(live.values()):  # none has trained a full epoch: search epochs are all that is known
        scale, live = full_scale(study.spec), {name: by_stage["search"].get(name) for name in live}
    left = estimate(full_work(study, figures, trained), live, scale)
    return StageProgress(budget, epochs, min(1.0, done / max(1, figures.budget)), left)


def _is_finished(stage: StageStatus) -> bool:
    return not stage.begun and (not stage.open or stage.stopped is not None)


def _worker(
    name: str,
    device: str,
    quiet: float | None,
    held: Sequence[tuple[int, int]],
    study_ids: Mapping[int, Stage],
) -> WorkerActivity:
    if not held:
        return WorkerActivity(name, device)
    study_id, _ = held[0]
    numbers = tuple(number for of, number in held if of == study_id)
    return WorkerActivity(name, device, study_ids[study_id], numbers, quiet_seconds=quiet)


def _with_pace(
    worker: WorkerActivity,
    by_stage: Paces,
    trained: Mapping[Stage, Trained],
    images: Mapping[Stage, int],
) -> WorkerActivity:
    stage = worker.stage
    if stage is None:
        return worker
    counts = [trained[stage].get(number, (TrialState.RUNNING, 0))[1] for number in worker.trials]
    pace = by_stage[stage].get(worker.name)
    rate = None if pace is None else pace.per_second
    size = images.get(stage)
    return WorkerActivity(
        worker.name,
        worker.device,
        stage,
        worker.trials,
        (min(counts), max(counts)),
        rate,
        None if rate is None or size is None else rate * size,
        worker.quiet_seconds,
    )


__all__ = ["BudgetUse", "LiveStatus", "RecentEpoch", "StageProgress", "WorkerActivity", "live_status"]
