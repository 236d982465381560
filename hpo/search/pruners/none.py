"""No pruning."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hpo.search.pruners.base import Curve, Peer, Pruner

if TYPE_CHECKING:
    from hpo.search.pruners.section import PrunerSection


@dataclass(frozen=True)
class NoPruner(Pruner):
    """Let every trial train to its last epoch."""

    first_epoch_key = None
    compares_curves = False

    @classmethod
    def from_section(cls, _section: "PrunerSection", _epochs: int) -> Self:
        return cls()

    def should_prune(self, _number: int, _curve: Curve, _peers: Iterable[Peer]) -> bool:
        return False
