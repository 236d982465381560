"""Decide which members of a pack end with an epoch, and how."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.pruners.base import Peer, Pruner
from hpo.search.pruners.none import NoPruner
from hpo.store import results
from hpo.store.results import TrialOutcome
from hpo.values.epoch import VALIDATION_ACCURACY, EpochResult
from hpo.worker.pack_trials import PackTrials
from hpo.worker.report_target import Attributes, ReportTarget


class Outcomes:
    """The outcomes of members that diverge, finish or are pruned, by trial number."""

    def __init__(self, target: ReportTarget, trials: PackTrials) -> None:
        self._target, self._trials = target, trials
        self._pruner: Pruner = NoPruner()
        if target.stage == "search":
            self._pruner = target.study.spec.make_pruner()

    @property
    def pause_epochs(self) -> tuple[int, ...]:
        """The epochs after which members pause."""
        return self._pruner.pause_epochs

    def of_ended(
        self, connection: Connection, epochs: Sequence[EpochResult], weights: Mapping[int, Attributes]
    ) -> dict[int, TrialOutcome]:
        """Return the outcomes of members that diverged or finished.

        `weights`: by number, the attributes that name the weights of finished members.
        """
        outcomes = {result.member: self._diverged(result) for result in epochs if result.status == "diverged"}
        finished = {self._trials.trial_id(r.member): r for r in epochs if r.status == "finished"}
        if not finished:
            return outcomes
        # From the database: an epoch that was trained twice keeps the metrics recorded first.
        kept = results.epoch_metrics(connection, {i: r.kept_epoch for i, r in finished.items()})
        for trial_id, metrics in kept.items():
            result = finished[trial_id]
            attributes = {
                **self._attributes(metrics.validation_accuracy, result.kept_epoch, result.epoch),
                **weights.get(result.member, {}),
            }
            outcomes[result.member] = TrialOutcome(
                TrialState.COMPLETE, metrics.validation_loss, attributes, result.epoch
            )
        return outcomes

    def of_pruned(self, connection: Connection, epochs: Sequence[EpochResult]) -> dict[int, TrialOutcome]:
        """Return the outcomes of members that the pruner ends at these epochs.

        All results of the pack must be in the database, so that pack mates count as peers.
        """
        if not self._pruner.compares_curves or not epochs:
            return {}
        curves = results.curves_at(
            connection,
            self._target.study_id,
            {result.epoch for result in epochs},
            [self._trials.trial_id(result.member) for result in epochs],
        )
        peers = [
            Peer(curve.number, curve.losses, curve.state == TrialState.COMPLETE) for curve in curves.values()
        ]
        outcomes = {}
        for result in epochs:
            losses = curves[self._trials.trial_id(result.member)].losses
            others = [peer for peer in peers if peer.number != result.member]
            if self._pruner.should_prune(result.member, losses, others):
                outcomes[result.member] = self._pruned(result)
        return outcomes

    def _diverged(self, result: EpochResult) -> TrialOutcome:
        reason = f"its loss was not finite in epoch {result.epoch}"
        attributes = {"reason": reason, **self._target.attributes}
        return TrialOutcome(TrialState.FAIL, None, attributes, result.epoch - 1)

    def _pruned(self, result: EpochResult) -> TrialOutcome:
        attributes = self._attributes(result.metrics[VALIDATION_ACCURACY], result.epoch, result.epoch)
        return TrialOutcome(TrialState.PRUNED, result.objective, attributes, result.epoch)

    def _attributes(self, accuracy: float, kept_epoch: int, epochs: int) -> dict[str, Any]:
        return {
            "accuracy": accuracy,
            "kept_epoch": kept_epoch,
            "epochs": epochs,
            **self._target.attributes,
        }
