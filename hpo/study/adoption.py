"""Adopt or fail the trials that a claim cannot hand out as they are."""

from collections.abc import Mapping, Sequence

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.store import results, trials
from hpo.store.results import TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study.study import Study, search_seed
from hpo.values.stage import Stage

MAX_LOSSES = 8
"""Consecutive worker losses without a new checkpoint after which a trial fails: the trial itself may kill its
workers."""


def adopt_foreign(connection: Connection, study: Study, stage: Stage, rows: Sequence[TrialRow]) -> bool:
    """Adopt trials that others added through Optuna (`enqueue_trial`, dashboard); return whether there were
    any.

    A search trial whose parameters form a point of the space becomes a trial like any other. All other
    foreign trials fail.
    """
    foreign = [row for row in rows if "seed" not in row.attributes]
    fixed = trials.fixed_params(connection, [row.trial_id for row in foreign])
    for row in foreign:
        point = {**fixed.get(row.trial_id, {}), **row.point}
        if stage == "search" and point in study.spec.space:
            trials.set_points(connection, study.spec.space, {row.trial_id: point})
            seed = search_seed(study.spec, row.number)
            trials.set_attributes(connection, {row.trial_id: {"seed": seed}})
        else:
            reason = "was not added by this service and gives no point of the search space"
            if stage == "full":
                reason = "was not added by promotion, as every full training is"
            _fail(connection, row, reason)
    return bool(foreign)


def fail_repeatedly_lost(
    connection: Connection, rows: Sequence[TrialRow], losses: Mapping[int, int]
) -> list[TrialRow]:
    """Fail the trials with `MAX_LOSSES` consecutive worker losses; return the others."""
    failed = [row for row in rows if losses.get(row.trial_id, 0) >= MAX_LOSSES]
    for row in failed:
        _fail(connection, row, f"its worker was lost {losses[row.trial_id]} times in a row")
    return [row for row in rows if row not in failed]


def _fail(connection: Connection, row: TrialRow, reason: str) -> None:
    results.finish(connection, {row.trial_id: TrialOutcome(TrialState.FAIL, None, {"reason": reason})})
