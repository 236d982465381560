"""Promote the best search trials to full training."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.errors import ConflictError, NothingCompletedError
from hpo.store import events, studies, trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.store.trials import StudyTrials, TrialRow
from hpo.study import lifecycle
from hpo.study.failures import failures
from hpo.study.stored import refresh
from hpo.study.study import Study, full_seed
from hpo.values.objective import Objective


@dataclass(frozen=True, slots=True)
class Promotion:
    """The outcome of `promote`.

    `chosen` are the promoted search trials, best first. `added` counts the full trainings queued by this
    call.
    """

    chosen: tuple[TrialRow, ...]
    added: int

    @property
    def announcement(self) -> str:
        """Return a line that names the promoted trials, best first."""
        numbers = ", ".join(str(row.number) for row in self.chosen)
        return f"search finished; promoting trial{'s' * (len(self.chosen) != 1)} {numbers}"


def best_trials(rows: Iterable[TrialRow], k: int, objective: Objective) -> list[TrialRow]:
    """Return the k best completed trials, best first; ties go to the earlier trial.

    Only trials that hpo trained count, not those that others ended through Optuna.
    """
    return _best(rows, k, lambda row: None if row.value is None else objective.cost(row.value))


def best_by_metric(rows: Iterable[TrialRow], k: int, metric: Objective) -> list[TrialRow]:
    """Return the k completed trials whose kept epoch has the best `metric`, best first.

    A trial of a version that did not measure the metric is left out.
    """

    def cost(row: TrialRow) -> float | None:
        metrics = row.record.metrics
        return None if metrics is None or metric.key not in metrics else metric.cost_of(metrics)

    return _best(rows, k, cost)


def _best(rows: Iterable[TrialRow], k: int, cost_of: Callable[[TrialRow], float | None]) -> list[TrialRow]:
    complete = (row for row in rows if row.state == TrialState.COMPLETE and row.record.is_trained)
    costs = ((cost_of(row), row) for row in complete)
    ranked = sorted((cost, row.number, row) for cost, row in costs if cost is not None)
    return [row for _, _, row in ranked[:k]]


def promote(storage: Storage, study: Study) -> Promotion:
    """Queue the best trials of a finished search for full training, once per seed.

    Idempotent, also when several processes call it at once. A stopped search is finished once all begun
    trials are. If full training is stopped too, nothing is promoted. Raises `ConflictError` if the search is
    not finished, and `NothingCompletedError` if none of its trials completed.
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
            chosen = best_trials(rows.ours, spec.promotion.top, study.objective)
        else:
            chosen = best_by_metric(rows.ours, spec.promotion.top, spec.promotion_metric())
        if not chosen:
            known = failures(rows.ours)
            cause = "" if known is None else f"; {known.describe(study.name)}"
            raise NothingCompletedError(
                f"study {study.name!r}: none of its {len(rows.ours)} search trials completed{cause}"
            )
        present = {
            (row.record.promoted_from, row.record.seed) for row in trials.read(connection, study.full_id).ours
        }
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
    return Promotion(tuple(chosen), len(new))


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
