"""Steps on the records of a study's trials, each in a transaction of its own."""

from __future__ import annotations

from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Connection, Row, text

from hpo.store import checkpoints, costs, leases, results, trials
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.store.trials import TrialRow
from hpo.study.schedule import LeasedTrial
from hpo.study.study import Study
from hpo.values.epoch import EpochResult
from hpo.values.objective import LOSS
from support.epochs import epoch_result


def result(epoch: int, loss: float) -> EpochResult:
    return epoch_result(0, epoch, loss, validation_accuracy=1 - loss, evaluation_seconds=0.5)


def rows(storage: Storage, study: Study) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study.search_id).ours


def lease_rows(storage: Storage) -> dict[int, Row[Any]]:
    """Return the leases by trial id, with the time that remains."""
    with storage.transaction() as connection:
        leases = connection.execute(text("SELECT *, expires - now() AS remaining FROM hpo.lease"))
        return {row.trial_id: row for row in leases}


def curve(storage: Storage, study: Study, trial: LeasedTrial) -> dict[int, float]:
    with storage.transaction() as connection:
        return results.curves(connection, study.search_id, LOSS)[trial.lease.trial_id].costs


def hold(storage: Storage, *trials: LeasedTrial) -> set[int]:
    with storage.transaction() as connection:
        return leases.hold(connection, [trial.lease for trial in trials])


def reap(storage: Storage, study: Study) -> list[int]:
    with storage.transaction() as connection:
        return leases.reap(connection, study.search_id)


def losses(storage: Storage, trial: LeasedTrial) -> int:
    with storage.transaction() as connection:
        return leases.losses(connection, [trial.lease.trial_id])[trial.lease.trial_id]


def save(storage: Storage, trial: LeasedTrial, epoch: int) -> list[str]:
    with storage.transaction() as connection:
        return checkpoints.save(
            connection, {trial.lease.trial_id: Checkpoint(epoch, f"{trial.number}-{epoch}")}
        )


def write_all(connection: Connection, trial: LeasedTrial) -> set[int]:
    """Report, charge and finish the trial as its owner does, if its lease is still held."""
    held = leases.hold(connection, [trial.lease])
    for trial_id in held:
        results.report(connection, {trial_id: result(1, 0.25)}, LOSS)
        costs.charge(connection, {trial_id: {"training": 7.0}})
        results.finish(
            connection, {trial_id: TrialOutcome(TrialState.COMPLETE, 0.25, reason="the old owner")}
        )
    return held
