"""Hyperband: successive halving in several brackets."""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from hpo.search.pruners.asha import AshaPruner
from hpo.search.pruners.base import Curve, Peer, Pruner
from hpo.search.pruners.rungs import RungSection


@dataclass(frozen=True)
class HyperbandPruner(Pruner):
    """Run successive halving in several brackets, from early to late first rungs.

    The number of a trial alone determines its bracket. The shares of the brackets give each bracket about the
    same number of epochs (Li et al. 2017, arXiv 1603.06560, algorithm 1). A trial is compared with the trials
    of its own bracket only.
    """

    min_epochs: int
    reduction: int
    epochs: int
    brackets: tuple[AshaPruner, ...] = field(init=False)
    shares: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        count = max(1, math.floor(math.log(self.epochs / self.min_epochs, self.reduction) + 1e-9) + 1)
        shares = tuple(math.ceil(count * self.reduction**s / (s + 1)) for s in reversed(range(count)))
        brackets = tuple(
            AshaPruner(self.min_epochs, self.reduction, self.epochs, stop_rate) for stop_rate in range(count)
        )
        object.__setattr__(self, "brackets", brackets)
        object.__setattr__(self, "shares", shares)

    def should_prune(self, number: int, curve: Curve, peers: Iterable[Peer]) -> bool:
        bracket = self._bracket(number)
        rivals = [peer for peer in peers if self._bracket(peer.number) == bracket]
        return self.brackets[bracket].should_prune(number, curve, rivals)

    def expected_share(self, epoch: int) -> float:
        shares = zip(self.brackets, self.shares, strict=True)
        return sum(share * bracket.expected_share(epoch) for bracket, share in shares) / sum(self.shares)

    def _bracket(self, number: int) -> int:
        remainder = zlib.crc32(str(number).encode()) % sum(self.shares)
        for index, share in enumerate(self.shares):
            remainder -= share
            if remainder < 0:
                return index
        raise AssertionError("a remainder is below the sum of the shares")


class HyperbandSection(RungSection):
    """The rule of `asha` in several brackets, with early to late first rungs."""

    name: Literal["hyperband"] = "hyperband"

    def make(self, epochs: int) -> HyperbandPruner:
        return HyperbandPruner(self.min_epochs, self.reduction, epochs)
