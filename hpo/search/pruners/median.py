"""The median stopping rule."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal

from pydantic import Field

from hpo.search.pruners.base import Curve, Peer, Pruner, PrunerSection


@dataclass(frozen=True)
class MedianPruner(Pruner):
    """Prune a trial if its best loss so far is above the median loss of completed trials at the same epoch.

    The rule of Vizier (Golovin et al. 2017, section 3.2.2) in the simplified form of Optuna's `MedianPruner`.
    No trial is pruned before `startup_trials` trials are complete, nor in its first `warmup_epochs` epochs.
    """

    startup_trials: int
    warmup_epochs: int

    def should_prune(self, _number: int, curve: Curve, peers: Iterable[Peer]) -> bool:
        epoch = max(curve)
        complete = [peer for peer in peers if peer.complete]
        if epoch <= self.warmup_epochs or len(complete) < self.startup_trials:
            return False
        losses = [peer.curve[epoch] for peer in complete if epoch in peer.curve]
        return bool(losses) and min(curve.values()) > median(losses)

    @property
    def unpruned_trials(self) -> int:
        return self.startup_trials

    def expected_share(self, epoch: int) -> float:
        return 1.0 if epoch <= self.warmup_epochs + 1 else 0.5


class MedianSection(PrunerSection):
    """A trial ends if its best loss is above the median of completed trials at the same epoch."""

    first_epoch_key = "warmup_epochs"

    name: Literal["median"] = "median"
    startup_trials: int = Field(default=5, ge=1, description="Completed trials before any trial is pruned.")
    warmup_epochs: int = Field(
        default=0, ge=0, description="Number of first epochs in which a trial is never pruned."
    )

    def make(self, epochs: int) -> MedianPruner:  # noqa: ARG002
        return MedianPruner(self.startup_trials, self.warmup_epochs)
