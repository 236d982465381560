"""Pause trials at rungs instead of pruning them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hpo.search.pruners.base import Curve, Peer, Pruner
from hpo.search.pruners.rungs import RungSection, passing_share, rung_epochs

RUNG_SPACING = 2
"""Ratio of the epochs of neighbouring rungs."""

LATE_RESUMES = 1.5
"""Trials that train beyond a rung, by the trials that the rule has room for at the end of a search. The best
trials change while trials come in, so more of them resume. Measured in replays on LeNet's table."""


@dataclass(frozen=True)
class PausePruner(Pruner):
    """Pause every trial at each rung; resume a trial once it is among the best 1/reduction at its rung.

    This is the rule of asynchronous successive halving (ASHA, Li et al. 2018, arXiv 1810.05934, algorithm 2),
    applied to predicted final losses instead of current losses.
    """

    min_epochs: int
    reduction: int
    epochs: int

    compares_curves = False

    def should_prune(self, _number: int, _curve: Curve, _peers: Iterable[Peer]) -> bool:
        return False

    @cached_property
    def pause_epochs(self) -> tuple[int, ...]:
        return tuple(rung_epochs(self.min_epochs, RUNG_SPACING, self.epochs))

    def expected_share(self, epoch: int) -> float:
        share = passing_share(self.pause_epochs, self.reduction, epoch)
        return min(1.0, LATE_RESUMES * share) if share < 1 else 1.0

    def resumable(self, reached: Sequence[int], predicted: Sequence[float]) -> Iterator[list[int]]:
        """Yield one list per rung, highest first: the indices of trials that may train beyond it, best first.

        Of the n trials that reached a rung, the best max(1, n // reduction) may train on. Trials that have
        reached the next rung count towards n and are not yielded.
        """
        next_rung = math.inf
        for rung in sorted(self.pause_epochs, reverse=True):
            ranked = sorted(
                (index for index, epochs in enumerate(reached) if epochs >= rung), key=predicted.__getitem__
            )
            best = ranked[: max(1, len(ranked) // self.reduction)]
            yield [index for index in best if reached[index] < next_rung]
            next_rung = rung


class PauseSection(RungSection):
    """A trial is checkpointed and set aside at its first rung, and whenever its epochs have doubled.

    It resumes once its predicted final loss is in the best 1/`reduction` of all trials that reached that
    rung.
    """

    name: Literal["pause"] = "pause"

    def make(self, epochs: int) -> PausePruner:
        return PausePruner(self.min_epochs, self.reduction, epochs)
