"""Asynchronous successive halving."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from hpo.search.pruners.base import Curve, Peer, Pruner
from hpo.search.pruners.rungs import RungSection, passing_share, rung_epochs


@dataclass(frozen=True)
class AshaPruner(Pruner):
    """Keep the best 1/reduction of the trials at each rung: asynchronous successive halving, stopping
    variant.

    A trial is compared with all trials that have reached the rung so far. The best of them is never pruned.
    Li et al. 2018 (arXiv 1810.05934), section 3.
    """

    min_epochs: int
    reduction: int
    epochs: int
    stop_rate: int = 0
    rungs: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        rungs = rung_epochs(self.min_epochs, self.reduction, self.epochs, self.stop_rate)
        object.__setattr__(self, "rungs", frozenset(rungs))

    def should_prune(self, _number: int, curve: Curve, peers: Iterable[Peer]) -> bool:
        epoch = max(curve)
        if epoch not in self.rungs:
            return False
        losses = sorted([peer.curve[epoch] for peer in peers if epoch in peer.curve] + [curve[epoch]])
        return curve[epoch] > losses[max(1, len(losses) // self.reduction) - 1]

    def expected_share(self, epoch: int) -> float:
        return passing_share(self.rungs, self.reduction, epoch)


class AshaSection(RungSection):
    """At each rung, only the best 1/`reduction` of the trials continue."""

    name: Literal["asha"] = "asha"

    def make(self, epochs: int) -> AshaPruner:
        return AshaPruner(self.min_epochs, self.reduction, epochs)
