"""Promote the best search trials to full training."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from json import dumps

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.errors import ConflictError, NothingCompletedError
from hpo.store import events, studies, trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.store.trials import StudyTrials, TrialRow
from hpo.study import lifecycle, refits
from hpo.study.failures import failures
from hpo.study.stored import refresh
from hpo.study.study import Study, full_seed
from hpo.values.objective import Objective
from hpo.values.wording import counted


@dataclass(frozen=True, slots=True)
class Promotion:
    """The outcome of `promote`.

    `chosen` are the promoted search trials, best first. `added` counts the full trainings queued by this
    call. `unranked` counts the completed trials that could not be ranked, because they lack `metric`.
    `refitted` are the full trainings that this call has queued to be repeated on all training images.
    """

    chosen: tuple[TrialRow, ...]
    added: int
    metric: str = ""
    unranked: int = 0
    refitted: tuple[TrialRow, ...] = ()

    @property
    def queued(self) -> int:
        """Return the number of trials queued by this call."""
        return self.added + len(self.refitted)

    @property
    def announcement(self) -> str:
        """Return a line that names the promoted trials, best first, or the trainings to be repeated."""
        if self.refitted:
            numbers = ", ".join(str(row.number) for row in self.refitted)
            return f"full training finished; refitting trial{'s' * (len(self.refitted) != 1)} {numbers}"
        numbers = ", ".join(str(row.number) for row in self.chosen)
        line = f"search finished; promoting trial{'s' * (len(self.chosen) != 1)} {numbers}"
        if not self.unranked:
            return line
        return f"{line}; {counted(self.unranked, 'completed trial')} without {self.metric} cannot be ranked"


def best_trials(rows: Iterable[TrialRow], k: int, objective: Objective) -> list[TrialRow]:
    """Return the k best completed trials, best first; ties go to the earlier trial.

    Only trials that hpo trained count, not those that others ended through Optuna, and no refits: nothing
    validates them.
    """
    return _best(rows, k, lambda row: None if row.value is None else objective.cost(row.value))


def best_by_metric(rows: Iterable[TrialRow], k: int, metric: Objective) -> list[TrialRow]:
    """Return the k completed trials whose kept epoch has the best `metric`, best first.

    A trial that did not measure the metric is left out.
    """

    def cost(row: TrialRow) -> float | None:
        metrics = row.record.metrics
        return None if metrics is None or metric.key not in metrics else metric.cost_of(metrics)

    return _best(rows, k, cost)


def _completed(rows: Iterable[TrialRow]) -> list[TrialRow]:
    return [
        row
        for row in rows
        if row.state == TrialState.COMPLETE and row.record.is_trained and row.record.refit_of is None
    ]


def _best(rows: Iterable[TrialRow], k: int, cost_of: Callable[[TrialRow], float | None]) -> list[TrialRow]:
    costs = ((cost_of(row), row) for row in _completed(rows))
    ranked = sorted((cost, row.number, row) for cost, row in costs if cost is not None)
    return [row for _, _, row in ranked[:k]]


def promote(storage: Storage, study: Study) -> Promotion:
    """Queue the best trials of a finished search for full training, once per seed.

    With `full.refit`, a call after the last full training queues the refits. Idempotent, also when several
    processes call it at once. A stopped search is finished once all begun trials are. If full training is
    stopped too, nothing is promoted. Raises `ConflictError` if the search is not finished, and
    `NothingCompletedError` if none of its trials completed.
    """
    with storage.transaction() as connection:
        studies.lock(connection, study.search_id)
        studies.lock(connection, study.full_id)
        study = refresh(connection, study)
        spec = study.spec
        if lifecycle.read_stopped(connection, study, "full") is not None:
            # The user interrupted the study. Its search may resume, so the best trials are not known yet.
            return Promotion((), 0)
        rows = trials.read(connection, study.search_id)
        _check_finished(connection, study, rows)
        if spec.promotion.metric is None:
            chosen, unranked = best_trials(rows.ours, spec.promotion.top, study.objective), 0
        else:
            metric = spec.promotion_metric()
            chosen = best_by_metric(rows.ours, spec.promotion.top, metric)
            unranked = sum(metric.key not in (row.record.metrics or {}) for row in _completed(rows.ours))
        if not chosen:
            raise NothingCompletedError(_nothing_to_promote(study, rows.ours))
        trainings = trials.read(connection, study.full_id).ours
        present = {(row.record.promoted_from, row.record.seed) for row in trainings}
        wanted = [
            (row.point, TrialRecord(full_seed(spec, index), promoted_from=row.number))
            for row in chosen
            for index in range(spec.promotion.seeds)
        ]
        new = [
            (point, record) for point, record in wanted if (record.promoted_from, record.seed) not in present
        ]
        queued = trials.enqueue(connection, study.full_id, spec.space, new)
        for row in chosen:
            full = [training.number for training in queued if training.record.promoted_from == row.number]
            if full:
                events.record(connection, study.search_id, row.number, "promoted", {"full": full})
        ranked = best_trials(trainings, len(trainings), study.objective)
        refitted = refits.due(study, trainings, ranked) if not new else []
        refits.queue(connection, study, refitted)
    return Promotion(tuple(chosen), len(new), spec.promotion.metric or "", unranked, tuple(refitted))


def _nothing_to_promote(study: Study, rows: Sequence[TrialRow]) -> str:
    if completed := _completed(rows):
        measured = sorted({name for row in completed for name in row.record.metrics or {}})
        return (
            f"study {study.name!r}: promotion.metric = {dumps(study.spec.promotion.metric)}: none of the "
            f"{counted(len(completed), 'completed search trial')} has this metric; "
            f"they have {', '.join(measured) or 'no metrics'}"
        )
    known = failures(rows)
    cause = "" if known is None else f"; {known.describe(study.name)}"
    return f"study {study.name!r}: none of its {len(rows)} search trials completed{cause}"


def _check_finished(connection: Connection, study: Study, rows: StudyTrials) -> None:
    if lifecycle.read_stopped(connection, study, "search") is not None:
        if begun := trials.count_begun(connection, study.search_id):
            raise ConflictError(
                f"study {study.name!r}: the search is stopped, but {begun} of its trials have begun and are "
                f"not finished; finish them first: hpo workers {study.name}"
            )
    elif (missing := study.trials - sum(state.is_finished() for state in rows.states)) > 0:
        state = f"{missing} of {study.trials} search trials are not finished"
        if missing == study.trials:
            state = f"no search trial is finished yet (0 of {study.trials})"
        raise ConflictError(
            f"study {study.name!r}: {state}; finish the search first: hpo workers {study.name}"
        )
