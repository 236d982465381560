"""Adopt or fail the trials that a claim cannot hand out as they are."""

from collections.abc import Mapping, Sequence

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.store import attributes, records, results, trials
from hpo.store.records import TrialRecord
from hpo.store.results import TrialOutcome
from hpo.store.trials import Foreign, TrialRow
from hpo.study.study import Study, search_seed
from hpo.values.stage import Stage

MAX_LOSSES = 8
"""Consecutive worker losses without a new checkpoint after which a trial fails: the trial itself may kill its
workers."""


def adopt_foreign(connection: Connection, study: Study, stage: Stage, foreign: Sequence[Foreign]) -> None:
    """Adopt open trials that others added through Optuna (`enqueue_trial`, dashboard).

    A search trial whose parameters form a point of the space becomes a trial like any other. All other
    foreign trials fail.
    """
    fixed = attributes.fixed_params(connection, [trial.trial_id for trial in foreign])
    for trial in foreign:
        point = trial.point_in(study.spec.space, fixed.get(trial.trial_id, {}))
        if trial.params is None:
            _refuse(connection, trial, trial.reason)
        elif stage == "full":
            _refuse(connection, trial, "was not added by promotion, as every full training is")
        elif point is None:
            reason = "was not created by hpo, and its parameters are not a point of the search space"
            _refuse(connection, trial, reason)
        else:
            results.discard(connection, trial.trial_id)  # hpo trains it from the first epoch
            trials.set_points(connection, study.spec.space, {trial.trial_id: point})
            record = TrialRecord(search_seed(study.spec, trial.number))
            records.insert(connection, {trial.trial_id: record})


def fail_repeatedly_lost(
    connection: Connection, rows: Sequence[TrialRow], losses: Mapping[int, int]
) -> list[TrialRow]:
    """Fail the trials with `MAX_LOSSES` consecutive worker losses; return the others."""
    failed = [row for row in rows if losses.get(row.trial_id, 0) >= MAX_LOSSES]
    for row in failed:
        reason = f"its worker was lost {losses[row.trial_id]} times in a row"
        results.finish(connection, {row.trial_id: TrialOutcome(TrialState.FAIL, reason=reason)})
    return [row for row in rows if row not in failed]


def _refuse(connection: Connection, trial: Foreign, reason: str) -> None:
    """Fail a trial that stays foreign. Without a record, Optuna's attribute alone says why."""
    results.finish(connection, {trial.trial_id: TrialOutcome(TrialState.FAIL, reason=reason)})
    records.note_refusal(connection, trial.trial_id, reason)
