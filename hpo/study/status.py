"""Where a study stands, in figures."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Connection, func, select

from hpo.store import costs, leases, schema, trials, workers
from hpo.store.connection import Storage
from hpo.store.trials import TrialRow
from hpo.study import lifecycle
from hpo.study.lifecycle import Stopped
from hpo.study.pause import is_paused
from hpo.study.promote import best_of
from hpo.study.study import Study
from hpo.values.space import Point, cell
from hpo.values.stage import STAGES, Stage

ACTIVITIES = ("training", "evaluation", "database", "checkpoints", "idle")
"""What the seconds of a device go into, in the order of tables."""


@dataclass(frozen=True, slots=True)
class Best:
    """The trial of least validation loss (`value`, per example); `accuracy` is a share."""

    trial: int
    value: float
    params: Point
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class StageStatus:
    """`budget`: trials there will be; `states`: trials by state, each of Optuna's five; `paused`: those of
    the waiting ones that paused at a rung; `device_seconds`: spent so far by its workers, `activities` splits
    them, `trial_seconds` those of each trial, by number; `stopped`: why no more trials are handed out."""

    budget: int
    states: dict[str, int]
    paused: int
    distinct_cells: int
    best: Best | None
    device_seconds: float
    activities: dict[str, float]
    trial_seconds: dict[int, dict[str, float]]
    stopped: Stopped | None

    @property
    def finished(self) -> int:
        return sum(self.states[state.name] for state in TrialState if state.is_finished())


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """`running`: the trials it holds."""

    name: str
    device: str
    running: int


@dataclass(frozen=True, slots=True)
class Status:
    study: str
    fingerprint: str
    search: StageStatus
    full: StageStatus
    workers: tuple[WorkerStatus, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def status(storage: Storage, study: Study) -> Status:
    """The figures of this moment, all from one transaction.

    Trials whose lease is overdue are put back into the queue first, so none is shown as running that nobody
    runs; the entries of workers that are overdue go.
    """
    spec = study.spec
    with storage.transaction() as connection:
        for stage in STAGES:
            leases.reap(connection, study.study_id(stage))
        workers.dismiss(connection)
        search = _stage(connection, study, "search", study.trials)
        full = _stage(connection, study, "full", spec.promotion.top * spec.promotion.seeds)
        return Status(study.name, spec.fingerprint, search, full, _workers(connection, study))


def _stage(connection: Connection, study: Study, stage: Stage, budget: int) -> StageStatus:
    rows = trials.read(connection, study.study_id(stage))
    counts = Counter(row.state for row in rows)
    activities = dict.fromkeys(ACTIVITIES, 0.0) | costs.device_seconds(connection, study.study_id(stage))
    return StageStatus(
        budget=budget,
        states={state.name: counts[state] for state in TrialState},
        paused=sum(map(is_paused, rows)),
        distinct_cells=len({cell(row.point) for row in rows}),
        best=_best(rows),
        device_seconds=sum(activities.values()),
        activities=activities,
        trial_seconds=costs.trial_seconds(connection, study.study_id(stage)),
        stopped=lifecycle.read(connection, study, stage),
    )


def _best(rows: list[TrialRow]) -> Best | None:
    for row in best_of(rows, 1):
        assert row.value is not None
        return Best(row.number, row.value, row.point, row.attributes.get("accuracy"))
    return None


def _workers(connection: Connection, study: Study) -> tuple[WorkerStatus, ...]:
    worker, lease = schema.workers, schema.leases
    query = (
        select(worker.c.name, worker.c.device, func.count(lease.c.trial_id).label("running"))
        .join_from(worker, lease, lease.c.worker == worker.c.name, isouter=True)
        .where(worker.c.study == study.name)
        .group_by(worker.c.name, worker.c.device)
        .order_by(worker.c.name)
    )
    return tuple(WorkerStatus(row.name, row.device, row.running) for row in connection.execute(query))
