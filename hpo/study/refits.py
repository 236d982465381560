"""Refits: the best promoted trial is trained again on all training images, once with each seed.

A refit repeats a full training for the epochs that validation chose. It has no value, because it has seen the
validation images.
"""

from collections.abc import Iterable, Sequence

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.store import results, trials
from hpo.store.records import TrialRecord
from hpo.store.trials import TrialRow
from hpo.study.study import Study
from hpo.values.refit import epoch_limits


def due(study: Study, rows: Sequence[TrialRow], ranked: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the full trainings that are to be repeated now and are not queued: all seeds of the best.

    `rows` are all trials of the stage `full`, and `ranked` the completed ones, best first. None is due while
    a full training is open, because it may become the best.
    """
    if not study.spec.full.refit or any(map(is_open_training, rows)):
        return []
    repeated = {row.record.refit_of for row in rows}
    return [
        row
        for row in ranked
        if row.record.promoted_from == ranked[0].record.promoted_from and row.number not in repeated
    ]


def is_open_training(row: TrialRow) -> bool:
    """Return whether a trial of the stage `full` is no refit and has not ended."""
    return row.record.refit_of is None and not row.state.is_finished()


def queue(connection: Connection, study: Study, trainings: Sequence[TrialRow]) -> None:
    """Queue the refits of these full trainings. The stage `full` must be locked."""
    if not trainings:
        return
    ids = [row.trial_id for row in trainings]
    curves = results.curves_at(connection, study.full_id, study.objective, [], ids)
    phases = study.spec.budget("full").phases
    new = []
    for row in trainings:
        kept = row.record.kept_epoch
        assert kept is not None, "a completed training has kept an epoch"
        limits = epoch_limits(phases, curves[row.trial_id].costs, kept)
        record = TrialRecord(
            row.record.seed, promoted_from=row.record.promoted_from, refit_of=row.number, limits=limits
        )
        new.append((row.point, record))
    trials.enqueue(connection, study.full_id, study.spec.space, new)


def is_refit(row: TrialRow) -> bool:
    """Return whether a trial is a completed refit."""
    return row.record.refit_of is not None and row.state == TrialState.COMPLETE and row.record.is_trained


def refit_of(rows: Iterable[TrialRow], training: TrialRow) -> TrialRow | None:
    """Return the completed refit of a full training, None if there is none."""
    return next((row for row in rows if is_refit(row) and row.record.refit_of == training.number), None)
