"""The status of a study in figures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.store import costs, leases, trials, workers
from hpo.store.connection import Storage
from hpo.store.trials import StudyTrials, TrialRow
from hpo.study import lifecycle, refits
from hpo.study.baseline import BaselineComparison, compare
from hpo.study.failures import Failures, failures
from hpo.study.lifecycle import Stopped
from hpo.study.promote import best_trials
from hpo.study.scored import ScoredModel, scored_models
from hpo.study.study import Study
from hpo.values.epoch import Metrics
from hpo.values.objective import Objective
from hpo.values.space import Point, cell
from hpo.values.stage import STAGES, Stage

ACTIVITIES = ("training", "evaluation", "database", "checkpoints", "idle")
"""The activities that device time is charged to, in the order of tables."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best trial.

    `value` is its objective, `accuracy` a share, and `metrics` are those of its kept epoch by name.
    """

    trial: int
    value: float
    params: Point
    accuracy: float | None
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStatus:
    """The figures of a stage.

    `budget` is the number of hpo's trials there will be, of which `retried` repeat a failed one. `to_come`
    trials are still to be suggested; the budget of full training comes with a promotion. `refits` of the
    budget repeat a full training on all training images, and `due` of them wait for a promotion. `states`
    counts all trials by each of Optuna's five states, `foreign` those of other programs among them.
    `paused` counts the waiting trials that are paused at a rung. `device_seconds` is the time spent by
    workers; `activities` splits it by activity, and `trial_seconds` by trial number and activity. `stopped`
    says why the stage is stopped. `failures` are the failed trials that no trial repeats, without those that
    diverged.
    """

    budget: int
    retried: int
    states: dict[str, int]
    paused: int
    distinct_cells: int
    best: Best | None
    device_seconds: float
    activities: dict[str, float]
    trial_seconds: dict[int, dict[str, float]]
    stopped: Stopped | None
    failures: Failures | None = None
    foreign: dict[str, int] = field(default_factory=dict)
    to_come: int = 0
    refits: int = 0
    due: int = 0

    @property
    def finished(self) -> int:
        """Return the number of hpo's trials that have ended."""
        return sum(self._count(state) for state in TrialState if state.is_finished())

    @property
    def begun(self) -> int:
        """Return the number of hpo's trials that are running."""
        return self._count(TrialState.RUNNING)

    @property
    def present(self) -> int:
        """Return the number of hpo's trials that there are."""
        return sum(map(self._count, TrialState))

    @property
    def open(self) -> int:
        """Return the number of hpo's trials that have not ended, with those still to be suggested."""
        return self.present + self.to_come - self.finished

    def _count(self, state: TrialState) -> int:
        return self.states[state.name] - self.foreign.get(state.name, 0)


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker. `running` counts the trials it holds.

    `quiet_seconds`: the time since the last epoch of its pack, or since the pack began. None without a pack.
    """

    name: str
    device: str
    running: int
    quiet_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The figures of a study at one moment. `scored`: the models that were scored on the test part."""

    study: str
    fingerprint: str
    objective: Objective
    search: StageStatus
    full: StageStatus
    workers: tuple[WorkerStatus, ...]
    baseline: BaselineComparison | None = None
    scored: tuple[ScoredModel, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        name, direction = self.objective.name, self.objective.direction
        plain = {**asdict(self), "objective": {"metric": name, "direction": direction}}
        del plain["baseline"], plain["scored"]
        plain["test_reads"] = [model.to_json() for model in self.scored]
        return plain if self.baseline is None else {**plain, "baseline": self.baseline.to_json()}


def status(storage: Storage, study: Study) -> Status:
    """Return the current figures, from one transaction.

    Trials whose lease has expired are requeued first, so no trial is shown as running without a worker.
    Expired workers are removed.
    """
    with storage.transaction() as connection:
        return read_status(connection, study)


def read_status(connection: Connection, study: Study) -> Status:
    """Return what `status` returns, as part of the caller's transaction."""
    for stage in STAGES:
        leases.reap(connection, study.study_id(stage))
    workers.dismiss(connection)
    rows = {stage: trials.read(connection, study.study_id(stage)) for stage in STAGES}
    search, full = (_stage(connection, study, stage, rows[stage]) for stage in STAGES)
    holders = tuple(WorkerStatus(*row) for row in workers.read(connection, study.name))
    baseline = compare(study, rows["search"].ours) if study.spec.baseline is not None else None
    return Status(
        study=study.name,
        fingerprint=study.fingerprint,
        objective=study.objective,
        search=search,
        full=full,
        workers=holders,
        baseline=baseline,
        scored=scored_models(connection, study),
    )


def _stage(connection: Connection, study: Study, stage: Stage, rows: StudyTrials) -> StageStatus:
    counts, foreign = Counter(rows.states), Counter(trial.state.name for trial in rows.foreign)
    activities = dict.fromkeys(ACTIVITIES, 0.0) | costs.device_seconds(connection, study.study_id(stage))
    retried = sum(row.record.retry_of is not None for row in rows.ours)
    promotions = study.spec.promotion.top * study.spec.promotion.seeds
    refitted, due = _refits(study, rows.ours) if stage == "full" else (0, 0)
    # A trial of another program takes the place of one that the sampler would suggest.
    to_come = max(0, study.budget + retried - len(rows)) if stage == "search" else 0
    return StageStatus(
        budget=len(rows.ours) + to_come if stage == "search" else promotions + retried + refitted,
        retried=retried,
        states={state.name: counts[state] for state in TrialState},
        paused=sum(row.is_paused for row in rows.ours),
        distinct_cells=len({cell(row.point) for row in rows.ours}),
        best=_best(rows.ours, study.objective),
        device_seconds=sum(activities.values()),
        activities=activities,
        trial_seconds=costs.trial_seconds(connection, study.study_id(stage)),
        stopped=lifecycle.read_stopped(connection, study, stage),
        failures=failures(rows.ours),
        foreign=dict(foreign),
        to_come=to_come,
        refits=refitted,
        due=due,
    )


def _refits(study: Study, rows: Sequence[TrialRow]) -> tuple[int, int]:
    """Return the number of refits there will be, as far as it is known, and the number of those due."""
    ranked = best_trials(rows, len(rows), study.objective)
    due = len(refits.due(study, rows, ranked))
    present = sum(row.record.refit_of is not None and row.record.retry_of is None for row in rows)
    if present or due or not study.spec.full.refit:
        return present + due, due
    is_over = bool(rows) and not any(map(refits.is_open_training, rows))
    return (0 if is_over else study.spec.promotion.seeds), 0


def _best(rows: list[TrialRow], objective: Objective) -> Best | None:
    for row in best_trials(rows, 1, objective):
        assert row.value is not None
        return Best(row.number, row.value, row.point, row.record.accuracy, row.record.metrics or {})
    return None
