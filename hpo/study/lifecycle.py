"""Stop and resume the stages of a study.

A stopped stage starts no new trials; its running trials finish or pause, and waiting trials keep their state.
A user or a stop rule of the study file stops a stage. So does a search that cannot train at all. All leave
the same mark: an attribute of the Optuna study.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from sqlalchemy import Connection

from hpo.search.stopping import stop_reason
from hpo.store import hand_backs, notes, studies, trials
from hpo.store.connection import Storage
from hpo.study import pause
from hpo.study.failures import broken_reason
from hpo.study.note import note_of
from hpo.study.progress import SearchProgress
from hpo.study.stored import refresh
from hpo.study.study import Study
from hpo.values.stage import STAGES, Stage

STOPPED = "hpo:stopped"


Stopper = Literal["rule", "user", "failures"]


@dataclass(frozen=True, slots=True)
class Stopped:
    """Who stopped a stage, and why."""

    by: Stopper
    reason: str


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
    if mark is None:
        return None
    # Another program may have written a mark of another form. A user can resume from it.
    is_ours = isinstance(mark, dict) and mark.keys() == {"by", "reason"} and mark["by"] in get_args(Stopper)
    return Stopped(mark["by"], str(mark["reason"])) if is_ours else BY_USER


def apply_rules(connection: Connection, study: Study, stage: Stage) -> StageState:
    """Stop the search if a stop rule holds; return whether a claim may hand out new trials.

    The epoch budget is committed while the running trials are expected to use it up. Without this rule, many
    workers would overspend: each free worker would begin trials while others still train. Once trials are
    pruned or pause earlier than expected, the budget is free again.

    The study must be locked and refreshed. Every claim calls this function before it hands out trials, so no
    trial slips in between. The refresh matters because a worker may have started before the rules changed.
    """
    mark = read_stopped(connection, study, stage)
    progress = SearchProgress(connection, study)
    reason = (
        stop_reason(study.spec.stop, progress, study.objective)
        if mark is None and stage == "search"
        else None
    )
    if reason is not None:
        mark = Stopped("rule", reason)
        _mark(connection, study, stage, mark)
    if mark is not None and mark.by == "rule":
        pause.prune_paused(connection, study)  # trials may have paused since the rule stopped the search
    return StageState(mark, mark is None and stage == "search" and progress.is_budget_committed)


def stop_broken_search(storage: Storage, study: Study) -> Stopped | None:
    """Stop the search if trial after trial fails before any has trained an epoch; return the new mark.

    Trials that were handed back begin no more, so that a network that always raises does not use up the
    budget.
    """
    with storage.transaction() as connection:
        studies.lock(connection, study.search_id)
        study = refresh(connection, study)
        reason = broken_reason(connection, study)
        if reason is None or read_stopped(connection, study, "search") is not None:
            return None
        mark = Stopped("failures", reason)
        _mark(connection, study, "search", mark)
        hand_backs.forget(connection, study.search_id)
        return mark


def forget_rule(connection: Connection, study: Study) -> None:
    """Resume a search that a rule has stopped. The search must be locked."""
    mark = read_stopped(connection, study, "search")
    if mark is not None and mark.by == "rule":
        unmark(connection, study, "search")


def unmark(connection: Connection, study: Study, stage: Stage) -> None:
    """Resume a stage, which must be locked, as part of the caller's transaction."""
    studies.unset_attribute(connection, study.study_id(stage), STOPPED)
    notes.write(connection, study.study_id(stage), note_of(study, stage))


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
                unmark(connection, study, stage)
                changed.append(stage)
        study = refresh(connection, study)
        next_stop = stop_reason(study.spec.stop, SearchProgress(connection, study), study.objective)
        running, waiting = _count_open(connection, study, STAGES)
        return LifecycleChange(tuple(changed), running, waiting, next_stop)


def _mark(connection: Connection, study: Study, stage: Stage, mark: Stopped) -> None:
    studies.set_attributes(connection, study.study_id(stage), {STOPPED: asdict(mark)})
    notes.write(connection, study.study_id(stage), note_of(study, stage, mark.reason))


def _count_open(connection: Connection, study: Study, stages: Sequence[Stage]) -> tuple[int, int]:
    """Return the numbers of trials that are running and that are waiting; see `LifecycleChange`."""
    ids = [study.study_id(stage) for stage in stages]
    running = sum(trials.count_begun(connection, study_id) for study_id in ids)
    waiting = sum(trials.count(connection, study_id, trials.OPEN) for study_id in ids) - running
    if "search" in stages:
        waiting += max(0, study.trials - trials.count(connection, study.search_id))
    return running, waiting
