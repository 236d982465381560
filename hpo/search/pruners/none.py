"""No pruning."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hpo.search.pruners.base import Curve, Peer, Pruner, PrunerSection


@dataclass(frozen=True)
class NoPruner(Pruner):
    """Let every trial train to its last epoch."""

    compares_curves = False

    def should_prune(self, _number: int, _curve: Curve, _peers: Iterable[Peer]) -> bool:
        return False


class NoPrunerSection(PrunerSection):
    """Every trial trains to its last epoch."""

    name: Literal["none"] = "none"

    def make(self, epochs: int) -> NoPruner:  # noqa: ARG002
        return NoPruner()
