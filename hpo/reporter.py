"""What a pack tells the database after each epoch, and what it learns from it: who is pruned, who is lost."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo import catalog, ledger, rungs
from hpo.claim import LEASE_SECONDS, LeasedTrial
from hpo.epoch import EpochResult
from hpo.rungs import Peer, Rule
from hpo.spec import StudySpec
from hpo.storage import Storage
from hpo.study import Stage, Study


@dataclass(frozen=True, slots=True)
class Ending:
    """How a trial ends: its state, its objective if it has one, and what is noted on it."""

    state: TrialState
    value: float | None
    attributes: Mapping[str, Any]


class Reporter:
    """The database side of one pack of leased trials.

    `save` is called with the number of a trial that has used up its budget, before the trial ends, and
    gives the attributes that say where its weights are.
    """

    def __init__(
        self,
        storage: Storage,
        study: Study,
        stage: Stage,
        trials: Sequence[LeasedTrial],
        attributes: Mapping[str, Any],
        save: Callable[[LeasedTrial], Mapping[str, Any]],
    ) -> None:
        self._storage, self._study_id, self._save = storage, study.study_id(stage), save
        self._keep = study.spec.budget(stage).keep
        self._rule = pruning_rule(study.spec) if stage == "search" else rungs.never
        self._attributes = attributes
        self._open = {trial.number: trial for trial in trials}
        self._kept: dict[int, EpochResult] = {}

    def report(self, results: Sequence[EpochResult]) -> set[int]:
        """Writes an epoch of the pack in one transaction; gives the numbers of the members that leave it.

        Those are the pruned, and those whose lease was lost: of these nothing is written. Finished and
        diverged trials end here too.
        """
        for result in results:
            if self._keep == "last" or result.best:
                self._kept[result.member] = result
        saved = {
            result.member: self._save(self._open[result.member])
            for result in results
            if result.status == "finished"
        }
        leases = {trial.lease.trial_id: trial.lease for trial in self._open.values()}
        with self._storage.transaction() as connection:
            held = ledger.hold(connection, leases.values(), LEASE_SECONDS)
            lost = {n for n, trial in self._open.items() if trial.lease.trial_id not in held}
            mine = [result for result in results if result.member not in lost]
            self._write(connection, mine)
            endings = {
                result.member: ending
                for result in mine
                if (ending := self._ending(result, saved.get(result.member, {})))
            }
            endings |= self._pruned(connection, [r for r in mine if r.member not in endings])
            for number, ending in endings.items():
                trial_id = self._open[number].lease.trial_id
                ledger.finish(connection, trial_id, ending.state, ending.value, ending.attributes)
        for number in lost | endings.keys():
            del self._open[number]
        return lost | {n for n, ending in endings.items() if ending.state == TrialState.PRUNED}

    def fail(self, error: Exception) -> None:
        """Ends all open trials of the pack as failed, with the traceback."""
        text = "".join(traceback.format_exception(error))
        attributes = {"reason": f"{type(error).__name__}: {error}", "traceback": text, **self._attributes}
        with self._storage.transaction() as connection:
            leases = [trial.lease for trial in self._open.values()]
            for trial_id in ledger.hold(connection, leases, LEASE_SECONDS):
                ledger.finish(connection, trial_id, TrialState.FAIL, None, attributes)
        self._open.clear()

    def release(self) -> None:
        """Puts the open trials of the pack back into the queue."""
        with self._storage.transaction() as connection:
            ledger.release(connection, [trial.lease for trial in self._open.values()])
        self._open.clear()

    def _write(self, connection: Connection, results: Sequence[EpochResult]) -> None:
        ids = {result.member: self._open[result.member].lease.trial_id for result in results}
        ledger.report(connection, {ids[r.member]: r for r in results if r.status != "diverged"})
        ledger.charge(
            connection,
            {ids[r.member]: {"training": r.seconds, "evaluation": r.evaluation_seconds} for r in results},
        )

    def _ending(self, result: EpochResult, saved: Mapping[str, Any]) -> Ending | None:
        if result.status == "diverged":
            reason = f"its loss was not finite in epoch {result.epoch}"
            return Ending(TrialState.FAIL, None, {"reason": reason, **self._attributes})
        if result.status == "finished":
            kept = self._kept[result.member]
            return Ending(TrialState.COMPLETE, kept.validation_loss, self._noted(kept, result, saved))
        return None

    def _pruned(self, connection: Connection, results: Sequence[EpochResult]) -> dict[int, Ending]:
        """Every result is in the database before the first is judged, so pack mates count as peers."""
        if self._rule is rungs.never or not results:
            return {}
        curves = catalog.curves(connection, self._study_id)
        peers = [
            Peer(row.number, curves.get(row.trial_id, {}), row.state == TrialState.COMPLETE)
            for row in catalog.trials(connection, self._study_id)
        ]
        endings = {}
        for result in results:
            curve = curves[self._open[result.member].lease.trial_id]
            # A trial that starts anew with another worker has later epochs on record already.
            curve = {epoch: loss for epoch, loss in curve.items() if epoch <= result.epoch}
            others = [peer for peer in peers if peer.number != result.member]
            if self._rule(result.member, curve, others):
                noted = self._noted(result, result, {})
                endings[result.member] = Ending(TrialState.PRUNED, result.validation_loss, noted)
        return endings

    def _noted(self, kept: EpochResult, last: EpochResult, saved: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "accuracy": kept.validation_accuracy,
            "kept_epoch": kept.epoch,
            "epochs": last.epoch,
            **self._attributes,
            **saved,
        }


def pruning_rule(spec: StudySpec) -> Rule:
    """The rule of `hpo.rungs` that the spec names."""
    pruner, epochs = spec.pruner, spec.search.epochs
    if pruner.name == "median":
        return rungs.median(pruner.startup_trials, pruner.warmup_epochs)
    if pruner.name == "asha":
        return rungs.asha(pruner.min_epochs, pruner.reduction, epochs)
    if pruner.name == "hyperband":
        return rungs.hyperband(pruner.min_epochs, pruner.reduction, epochs)
    return rungs.never
