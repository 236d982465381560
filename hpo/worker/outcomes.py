"""Decide which members of a pack end with an epoch, and how."""

import math
from collections.abc import Mapping, Sequence

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.pruners.base import Peer, Pruner
from hpo.search.pruners.none import NoPruner
from hpo.store import results
from hpo.store.results import TrialOutcome
from hpo.study.failures import DIVERGED, METRIC_DIVERGED
from hpo.values.epoch import TRAIN_LOSS, VALIDATION_LOSS, EpochResult
from hpo.worker.pack_trials import PackTrials
from hpo.worker.report_target import ReportTarget


class Outcomes:
    """The outcomes of members that diverge, finish or are pruned, by trial number."""

    def __init__(self, target: ReportTarget, trials: PackTrials) -> None:
        self._target, self._trials, self._objective = target, trials, target.study.objective
        self._pruner: Pruner = NoPruner()
        if target.stage == "search":
            self._pruner = target.study.spec.make_pruner()

    @property
    def pause_epochs(self) -> tuple[int, ...]:
        """The epochs after which members pause."""
        return self._pruner.pause_epochs

    def trains_to_its_end(self, number: int) -> bool:
        """Return whether a member is neither pruned nor paused, as the baseline of a search."""
        return self._target.stage == "search" and self._target.study.spec.is_baseline(
            self._trials.point(number)
        )

    def of_ended(
        self, connection: Connection, epochs: Sequence[EpochResult], weights: Mapping[int, str]
    ) -> dict[int, TrialOutcome]:
        """Return the outcomes of members that diverged or finished.

        `weights`: by number, the files with the weights of finished members.
        """
        outcomes = {result.member: _diverged(result) for result in epochs if result.status == "diverged"}
        finished = {self._trials.trial_id(r.member): r for r in epochs if r.status == "finished"}
        if not finished:
            return outcomes
        # From the database: an epoch that was trained twice keeps the metrics recorded first.
        epochs_kept = {trial_id: result.kept_epoch for trial_id, result in finished.items()}
        kept = results.epoch_metrics(connection, epochs_kept, self._objective)
        for trial_id, metrics in kept.items():
            result = finished[trial_id]
            outcomes[result.member] = TrialOutcome(
                state=TrialState.COMPLETE,
                value=metrics.get(self._objective.key, self._objective.worst),
                epochs=result.epoch,
                kept_epoch=result.kept_epoch,
                metrics=metrics,
                weights=weights.get(result.member),
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
            self._objective,
            {result.epoch for result in epochs},
            [self._trials.trial_id(result.member) for result in epochs],
        )
        peers = [
            Peer(curve.number, curve.costs, curve.state == TrialState.COMPLETE) for curve in curves.values()
        ]
        outcomes = {}
        for result in epochs:
            if self.trains_to_its_end(result.member):
                continue
            costs = curves[self._trials.trial_id(result.member)].costs
            others = [peer for peer in peers if peer.number != result.member]
            if self._pruner.should_prune(result.member, costs, others):
                outcomes[result.member] = self._pruned(result)
        return outcomes

    def _pruned(self, result: EpochResult) -> TrialOutcome:
        return TrialOutcome(
            state=TrialState.PRUNED,
            value=self._objective.of(result.metrics),
            epochs=result.epoch,
            kept_epoch=result.epoch,
            metrics=result.metrics,
        )


def _diverged(result: EpochResult) -> TrialOutcome:
    losses = (value for name, value in result.metrics.items() if name in (TRAIN_LOSS, VALIDATION_LOSS))
    what = METRIC_DIVERGED if all(map(math.isfinite, losses)) else DIVERGED
    reason = f"{what} in epoch {result.epoch}"
    return TrialOutcome(TrialState.FAIL, epochs=result.epoch - 1, reason=reason)
