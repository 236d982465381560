"""Stopping a stage of a study: it hands out nothing new, and what is running is finished, or pauses.

A user stops a stage, or a rule of the study file does; both leave the same mark on its Optuna study, and
waiting trials stay as they are.
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
from hpo.study.study import STOPPED, Study, current
from hpo.values.stage import STAGES, Stage


@dataclass(frozen=True, slots=True)
class Stopped:
    """That a stage is stopped, and why."""

    by: Literal["rule", "user"]
    reason: str


Trained = Sequence[tuple[TrialState, int]]
"""The states of trials and how many epochs each has trained."""

BY_USER = Stopped("user", "stopped by hand")


@dataclass(frozen=True, slots=True)
class Draining:
    """What `stop` or `resume` did to the stages it was about, if anything, and what is left in them.

    `running`: trials that are still to be finished, also those whose worker was lost; `waiting`: those not
    begun, also what TPE has not proposed yet, and those that are paused. `again`: the rule by which the
    search ends anew as soon as a worker asks for trials.
    """

    changed: tuple[Stage, ...]
    running: int
    waiting: int
    again: str | None = None


def stopped(storage: Storage, study: Study, stage: Stage) -> Stopped | None:
    """Why the stage hands out nothing new, None if it does."""
    with storage.transaction() as connection:
        return read(connection, study, stage)


def read(connection: Connection, study: Study, stage: Stage) -> Stopped | None:
    """`stopped`, as a step of the caller's transaction."""
    mark = studies.read_attribute(connection, study.study_id(stage), STOPPED)
    return None if mark is None else Stopped(**mark)


@dataclass(frozen=True, slots=True)
class Course:
    """`stopped`: why a stage hands out nothing new; `holds_back`: whether it begins nothing new for now."""

    stopped: Stopped | None
    holds_back: bool = False


def decide(connection: Connection, study: Study, stage: Stage) -> Course:
    """`read`, after a rule of the study file that holds by now has stopped the search.

    It holds back where what is under way is expected to use its epochs up. Otherwise many workers would spend
    far more than the study file allows, as each that is free begins more while others are still at it. When
    trials stay behind sooner than expected, it goes on.

    The study must be locked, and be as it is stored by now: each claim decides before it hands out anything,
    so none comes between, and a worker may have been started before the rules changed.
    """
    mark = read(connection, study, stage)
    trained = _trained(connection, study) if mark is None and stage == "search" else []
    if mark is None and stage == "search" and (reason := _reason(connection, study, trained)) is not None:
        mark = Stopped("rule", reason)
        _mark(connection, study, stage, mark)
    if mark is not None and mark.by == "rule":
        pause.end(connection, study)  # also those that have paused since
    return Course(mark, mark is None and _holds_back(study, trained))


def stop(storage: Storage, study: Study, stages: Sequence[Stage] = STAGES) -> Draining:
    """Stops the stages, for as long as no user resumes them.

    It waits for a claim that is under way, and every later one sees the mark: once this returns, nothing new
    is handed out. What a rule has ended becomes the user's, so that other rules do not open it again.
    """
    with storage.transaction() as connection:
        changed = []
        for stage in stages:
            studies.lock(connection, study.study_id(stage))
            if read(connection, study, stage) != BY_USER:
                _mark(connection, study, stage, BY_USER)
                changed.append(stage)
        return _draining(connection, study, stages, changed)


def resume(storage: Storage, study: Study) -> Draining:
    """Lets both stages hand out trials again, whoever or whatever stopped them."""
    with storage.transaction() as connection:
        changed = []
        for stage in STAGES:
            studies.lock(connection, study.study_id(stage))
            if read(connection, study, stage) is not None:
                studies.unset_attribute(connection, study.study_id(stage), STOPPED)
                changed.append(stage)
        study = current(connection, study)
        reason = _reason(connection, study, _trained(connection, study))
        return _draining(connection, study, STAGES, changed, reason)


def _mark(connection: Connection, study: Study, stage: Stage, mark: Stopped) -> None:
    studies.set_attributes(connection, study.study_id(stage), {STOPPED: asdict(mark)})


def _trained(connection: Connection, study: Study) -> Trained:
    """Those of the search, if any rule asks for them."""
    if study.spec.stop.epochs is None:
        return []
    return results.trained_epochs(connection, study.search_id, study.inherited)


def _reason(connection: Connection, study: Study, trained: Trained) -> str | None:
    """What the rules say; of what they do not ask for, nothing is looked up.

    Where trials pause, only completed ones count in a row: all others are pruned at once, in the end.
    """
    rules, ended, seconds = study.spec.stop, list[EndedTrial](), 0.0
    if rules.target is not None or rules.patience is not None:
        ended = [
            EndedTrial(
                number, value if state == TrialState.COMPLETE else None, inherited=number < study.inherited
            )
            for number, state, value in trials.ended(connection, study.search_id)
            if state == TrialState.COMPLETE or not pause.rungs_of(study.spec)
        ]
    if rules.device_hours is not None:
        seconds = sum(costs.device_seconds(connection, study.search_id).values())
    return stopping.stop_reason(rules, ended, sum(epochs for _, epochs in trained), seconds)


def _holds_back(study: Study, trained: Trained) -> bool:
    budget = study.spec.stop.epochs
    if budget is None:
        return False
    under_way = [epochs for state, epochs in trained if state == TrialState.RUNNING]
    stayed = [epochs for state, epochs in trained if state != TrialState.RUNNING]  # some of them only paused
    expected = stopping.expected_remaining_epochs(stayed, under_way, study.spec.search.epochs)
    return sum(stayed) + sum(under_way) + expected >= budget


def _draining(
    connection: Connection,
    study: Study,
    stages: Sequence[Stage],
    changed: Sequence[Stage],
    again: str | None = None,
) -> Draining:
    ids = [study.study_id(stage) for stage in stages]
    running = sum(trials.count_begun(connection, study_id) for study_id in ids)
    waiting = sum(trials.count(connection, study_id, trials.OPEN) for study_id in ids) - running
    if "search" in stages:
        waiting += max(0, study.trials - trials.count(connection, study.search_id))
    return Draining(tuple(changed), running, waiting, again)
