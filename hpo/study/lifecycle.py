"""Stop and resume the stages of a study.

A stopped stage starts no new trials; its running trials finish or pause, and waiting trials keep their state.
A user or a stop rule of the study file stops a stage. Both leave the same mark: an attribute of the Optuna
study.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search import stopping
from hpo.search.stopping import EndedTrial
from hpo.store import costs, results, studies, trials
from hpo.store.connection import Storage
from hpo.study import pause
from hpo.study.stored import refresh
from hpo.study.study import Study
from hpo.values.stage import STAGES, Stage

STOPPED = "hpo:stopped"


@dataclass(frozen=True, slots=True)
class Stopped:
    """Who stopped a stage, and why."""

    by: Literal["rule", "user"]
    reason: str


TrainedEpochs = Sequence[tuple[TrialState, int]]
"""The state of each trial, and the number of epochs it has trained."""

BY_USER = Stopped("user", "stopped by hand")


@dataclass(frozen=True, slots=True)
class LifecycleChange:
    """The outcome of `stop` or `resume` over the stages concerned.

    `changed` are the stages whose mark changed. `running` counts trials still to be finished, including
    trials whose worker was lost. `waiting` counts trials that have not begun, trials that the sampler has not
    suggested yet, and paused trials. `next_stop` is the rule that will stop the search again at the next
    claim.
    """

    changed: tuple[Stage, ...]
    running: int
    waiting: int
    next_stop: str | None = None


@dataclass(frozen=True, slots=True)
class StageState:
    """Whether a claim may hand out new trials.

    `stopped` says why the stage is stopped. With `budget_committed` no trial may begin: the running trials
    are expected to use the epoch budget up.
    """

    stopped: Stopped | None
    budget_committed: bool = False

    @property
    def may_begin(self) -> bool:
        """Return whether trials may begin or resume."""
        return self.stopped is None and not self.budget_committed


def stopped(storage: Storage, study: Study, stage: Stage) -> Stopped | None:
    """Return why the stage is stopped, None if it is not."""
    with storage.transaction() as connection:
        return read_stopped(connection, study, stage)


def read_stopped(connection: Connection, study: Study, stage: Stage) -> Stopped | None:
    """Return why the stage is stopped, None if it is not, as part of the caller's transaction."""
    mark = studies.read_attribute(connection, study.study_id(stage), STOPPED)
    return None if mark is None else Stopped(**mark)


def apply_rules(connection: Connection, study: Study, stage: Stage) -> StageState:
    """Stop the search if a stop rule holds; return whether a claim may hand out new trials.

    The epoch budget is committed while the running trials are expected to use it up. Without this rule, many
    workers would overspend: each free worker would begin trials while others still train. Once trials are
    pruned or pause earlier than expected, the budget is free again.

    The study must be locked and refreshed. Every claim calls this function before it hands out trials, so no
    trial slips in between. The refresh matters because a worker may have started before the rules changed.
    """
    mark = read_stopped(connection, study, stage)
    trained: TrainedEpochs = []
    if mark is None and stage == "search":
        trained = _trained_epochs(connection, study)
        if (reason := _stop_reason(connection, study, trained)) is not None:
            mark = Stopped("rule", reason)
            _mark(connection, study, stage, mark)
    if mark is not None and mark.by == "rule":
        pause.prune_paused(connection, study)  # trials may have paused since the rule stopped the search
    return StageState(mark, mark is None and _is_budget_committed(study, trained))


def forget_rule(connection: Connection, study: Study) -> None:
    """Resume a search that a rule has stopped. The search must be locked."""
    mark = read_stopped(connection, study, "search")
    if mark is not None and mark.by == "rule":
        studies.unset_attribute(connection, study.search_id, STOPPED)


def stop(storage: Storage, study: Study, stages: Sequence[Stage] = STAGES) -> LifecycleChange:
    """Stop the stages until a user resumes them.

    Waits for a concurrent claim; every later claim sees the mark. When this function returns, no new trial is
    handed out. A stage that a rule has stopped becomes stopped by the user, so that new rules do not resume
    it.
    """
    with storage.transaction() as connection:
        changed = []
        for stage in stages:
            studies.lock(connection, study.study_id(stage))
            if read_stopped(connection, study, stage) != BY_USER:
                _mark(connection, study, stage, BY_USER)
                changed.append(stage)
        running, waiting = _count_open(connection, study, stages)
        return LifecycleChange(tuple(changed), running, waiting)


def resume(storage: Storage, study: Study) -> LifecycleChange:
    """Resume both stages, whether a user or a rule stopped them."""
    with storage.transaction() as connection:
        changed = []
        for stage in STAGES:
            studies.lock(connection, study.study_id(stage))
            if read_stopped(connection, study, stage) is not None:
                studies.unset_attribute(connection, study.study_id(stage), STOPPED)
                changed.append(stage)
        study = refresh(connection, study)
        next_stop = _stop_reason(connection, study, _trained_epochs(connection, study))
        running, waiting = _count_open(connection, study, STAGES)
        return LifecycleChange(tuple(changed), running, waiting, next_stop)


def _mark(connection: Connection, study: Study, stage: Stage, mark: Stopped) -> None:
    studies.set_attributes(connection, study.study_id(stage), {STOPPED: asdict(mark)})


def _trained_epochs(connection: Connection, study: Study) -> TrainedEpochs:
    """Return the trained epochs of the search; empty if no rule limits epochs."""
    if study.spec.stop.epochs is None:
        return []
    return results.trained_epochs(connection, study.search_id, study.inherited)


def _stop_reason(connection: Connection, study: Study, trained: TrainedEpochs) -> str | None:
    """Return the reason of the rule that holds. Queries only the figures that the rules need.

    If trials pause, only completed trials count for patience: all paused trials are pruned at once at the
    end.
    """
    rules, ended, seconds = study.spec.stop, list[EndedTrial](), 0.0
    if rules.target is not None or rules.patience is not None:
        ended = [
            EndedTrial(
                number, value if state == TrialState.COMPLETE else None, inherited=number < study.inherited
            )
            for number, state, value in trials.ended(connection, study.search_id)
            if state == TrialState.COMPLETE or not study.spec.make_pruner().pause_epochs
        ]
    if rules.device_hours is not None:
        seconds = sum(costs.device_seconds(connection, study.search_id).values())
    return stopping.stop_reason(rules, ended, sum(epochs for _, epochs in trained), seconds)


def _is_budget_committed(study: Study, trained: TrainedEpochs) -> bool:
    budget = study.spec.stop.epochs
    if budget is None:
        return False
    running = [epochs for state, epochs in trained if state == TrialState.RUNNING]
    ended = [epochs for state, epochs in trained if state != TrialState.RUNNING]  # including paused trials
    remaining = stopping.expected_remaining_epochs(ended, running, study.spec.search.epochs)
    return sum(ended) + sum(running) + remaining >= budget


def _count_open(connection: Connection, study: Study, stages: Sequence[Stage]) -> tuple[int, int]:
    """Return the numbers of trials that are running and that are waiting; see `LifecycleChange`."""
    ids = [study.study_id(stage) for stage in stages]
    running = sum(trials.count_begun(connection, study_id) for study_id in ids)
    waiting = sum(trials.count(connection, study_id, trials.OPEN) for study_id in ids) - running
    if "search" in stages:
        waiting += max(0, study.trials - trials.count(connection, study.search_id))
    return running, waiting
