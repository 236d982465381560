"""Retry failed trials: each failed trial gets a successor with the same parameters and the same seed.

A failed trial is final in Optuna and does not change. The successor has a new number and costs no budget.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.errors import ConflictError, InputError, NotFoundError
from hpo.spec.identity import SHORT, UNKNOWN, Identity
from hpo.store import hand_backs, results, studies, trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.store.trials import StudyTrials, TrialRow
from hpo.study import lifecycle
from hpo.study.failures import failed, has_diverged
from hpo.study.lifecycle import Stopped
from hpo.study.stored import RETRIED, refresh
from hpo.study.study import Study
from hpo.values.stage import STAGES, Stage


@dataclass(frozen=True, slots=True)
class Retry:
    """The outcome of `retry`.

    `queued` maps failed trials to successors, by stage and number. `diverged` counts the failed trials that
    are left out because a retry would diverge again. `adopted` says whether the study has accepted new code
    of its network or function. `stopped` says why the search is still stopped.
    """

    queued: Mapping[Stage, Mapping[int, int]]
    diverged: int
    adopted: bool
    stopped: Stopped | None


def retry(
    storage: Storage,
    study: Study,
    numbers: Collection[int] = (),
    stages: Sequence[Stage] = STAGES,
    present: Identity = UNKNOWN,
) -> Retry:
    """Queue failed trials again: the trials `numbers`, or all trials that have not diverged.

    Idempotent, even if several processes call it at once: a trial has at most one successor. A search that
    stopped because its trials fail continues. `present` has the hash of the user's code. The study adopts new
    code while no trial has trained an epoch. Raises `NotFoundError` for a number that the stage does not
    have, `InputError` for a trial that has not failed, and `ConflictError` for new code after an epoch.
    """
    with storage.transaction() as connection:
        for stage in STAGES:
            studies.lock(connection, study.study_id(stage))
        study = refresh(connection, study)
        adopted = _adopt_code(connection, study, present)
        queued: dict[Stage, Mapping[int, int]] = {}
        diverged = 0
        for stage in stages:
            rows = trials.read(connection, study.study_id(stage))
            chosen = _chosen(study, stage, rows, numbers)
            if not numbers:
                diverged += sum(map(has_diverged, chosen))
                chosen = [row for row in chosen if not has_diverged(row)]
            queued[stage] = _enqueue(connection, study, stage, chosen)
        mark = lifecycle.read_stopped(connection, study, "search")
        if mark is not None and mark.by == "failures" and any(queued.values()):
            lifecycle.unmark(connection, study, "search")
            mark = None
        return Retry(queued, diverged, adopted, mark)


def _chosen(study: Study, stage: Stage, rows: StudyTrials, numbers: Collection[int]) -> list[TrialRow]:
    """Return the failed trials without a successor: the trials `numbers`, or all trials."""
    waiting = failed(rows.ours)
    if not numbers:
        return waiting
    name = study.spec.full_name if stage == "full" else study.name
    known = {row.number: row for row in rows.ours}
    foreign = {trial.number for trial in rows.foreign}
    for number in sorted(set(numbers)):
        if number in foreign:
            raise InputError(f"trial {number} of {name!r}: was added by another program; hpo cannot retry it")
        if number not in known:
            raise NotFoundError(f"no trial {number} in {name!r}; it has {len(rows)} trials, numbered from 0")
        if (state := known[number].state) != TrialState.FAIL:
            raise InputError(f"trial {number} of {name!r} is {state.name}: only a failed trial is retried")
    return [row for row in waiting if row.number in numbers]


def _enqueue(
    connection: Connection, study: Study, stage: Stage, chosen: Sequence[TrialRow]
) -> Mapping[int, int]:
    new = [
        (
            row.point,
            TrialRecord(
                row.record.seed,
                promoted_from=row.record.promoted_from,
                retry_of=row.number,
                refit_of=row.record.refit_of,
                limits=row.record.limits,
            ),
        )
        for row in chosen
    ]
    rows = trials.enqueue(connection, study.study_id(stage), study.spec.space, new)
    if stage == "search" and rows:
        count = study.retried + len(rows)
        studies.set_attributes(connection, study.search_id, {RETRIED: count})
    if rows:
        hand_backs.allow_mates(connection, study.study_id(stage))
    return {row.number: successor.number for row, successor in zip(chosen, rows, strict=True)}


def _adopt_code(connection: Connection, study: Study, present: Identity) -> bool:
    """Store the hash of the user's code if the code has changed. Return whether it has."""
    difference = study.identity.difference(replace(present, data=None))
    if difference is None:
        return False
    noun = "training function" if study.spec.is_function else "network"
    changed = (
        f"study {study.name!r}: the code of its {noun} is {difference.present[:SHORT]}, "
        f"but the study began with {difference.stored[:SHORT]}"
    )
    for stage in STAGES:
        if results.any_epoch(connection, study.study_id(stage)):
            raise ConflictError(
                f"{changed}; trials that have trained an epoch would not be comparable: restore the code, or "
                "give the study file another name and keep the finished trials: "
                f"hpo study fork {study.name} FILE"
            )
        if trials.count(connection, study.study_id(stage), (TrialState.RUNNING,)):
            raise ConflictError(
                f"{changed}; workers still train the old code: stop the workers, and try again "
                f"(hpo status {study.name})"
            )
    adopted = study.identity.with_code_of(present)
    for stage in STAGES:
        studies.set_attributes(connection, study.study_id(stage), adopted.to_attributes())
    return True
