"""The interface of a pruner, and the learning curves it compares."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from hpo.search.pruners.section import PrunerSection

Curve = Mapping[int, float]
"""The validation loss of a trial by epoch, from epoch 1. Lower is better."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another trial of the study; `complete` if it trained to its last epoch.

    Pruners read the curve of a peer only at the epoch under decision. Other epochs may be missing.
    """

    number: int
    curve: Curve
    complete: bool


class Pruner(ABC):
    """Decide after each epoch whether a trial is pruned.

    A pruner is a pure function of the curves known at that moment and keeps no state. A trial that moves to
    another worker, or reports an epoch twice, therefore cannot confuse it.
    """

    first_epoch_key: ClassVar[str | None] = "min_epochs"
    """The key of `[pruner]` that must be below `search.epochs`, or the pruner would never act. None: no such
    key."""

    compares_curves: ClassVar[bool] = True
    """False if `should_prune` never prunes. The worker then neither calls it nor reads the curves."""

    @classmethod
    @abstractmethod
    def from_section(cls, section: "PrunerSection", epochs: int) -> Self:
        """Return the pruner for trials of `epochs` epochs."""

    @abstractmethod
    def should_prune(self, number: int, curve: Curve, peers: Iterable[Peer]) -> bool:
        """Return whether trial `number` is pruned at the last epoch of `curve`; `peers` exclude this
        trial."""

    @property
    def pause_epochs(self) -> tuple[int, ...]:
        """Return the epochs after which every trial pauses; empty if trials never pause."""
        return ()

    def resumable(self, _reached: Sequence[int], _predicted: Sequence[float]) -> Iterator[list[int]]:
        """Yield one list per rung, highest first: the indices of trials that may train beyond it, best first.

        `reached` holds the epochs of each trial, `predicted` the predicted final loss of each trial.
        """
        return iter(())
