"""The interfaces of a pruner and of its section in the study file, and the curves that pruners compare."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from hpo.values.section import Section
from hpo.values.space import SearchSpace

Curve = Mapping[int, float]
"""The cost of a trial by epoch, from epoch 1: the validation loss, or the error. Lower is better."""


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

    compares_curves: ClassVar[bool] = True
    """False if `should_prune` never prunes. The worker then neither calls it nor reads the curves."""

    @abstractmethod
    def should_prune(self, number: int, curve: Curve, peers: Iterable[Peer]) -> bool:
        """Return whether trial `number` is pruned at the last epoch of `curve`; `peers` exclude this
        trial."""

    @property
    def pause_epochs(self) -> tuple[int, ...]:
        """Return the epochs after which every trial pauses; empty if trials never pause."""
        return ()

    @property
    def unpruned_trials(self) -> int:
        """Return how many of the first trials train to their last epoch, whatever the rule."""
        return 0

    def expected_share(self, _epoch: int) -> float:
        """Return the share of trials that are expected to train this epoch, before any result is known.

        Epochs count from 1. The first `unpruned_trials` are not among these trials.
        """
        return 1.0

    def resumable(self, _reached: Sequence[int], _predicted: Sequence[float]) -> Iterator[list[int]]:
        """Yield one list per rung, highest first: the indices of trials that may train beyond it, best first.

        `reached` holds the epochs of each trial, `predicted` the predicted final loss of each trial.
        """
        return iter(())


class PrunerSection(Section):
    """The section `[pruner]` with the keys of one pruner.

    A subclass narrows `name` to the pruner's name. The first line of its docstring says in the reference what
    the pruner does.
    """

    first_epoch_key: ClassVar[str | None] = None
    """The key that must be below `search.epochs`, or the pruner would never act. None: no such key."""

    name: str = ""

    @abstractmethod
    def make(self, epochs: int) -> Pruner:
        """Return the pruner for trials of `epochs` epochs."""

    def resolved(self, _epochs: int, _space: SearchSpace) -> Self:
        """Return the section with the defaults of a study with this space and trials of `epochs` epochs."""
        return self

    def keeping(self, _stored: "PrunerSection") -> Self:
        """Return the section with the values of a stored study's where the file has `resolved` defaults.

        Another version of hpo may have stored another default.
        """
        return self

    def mistakes(self, epochs: int) -> dict[str, str]:
        """Return the rule that each key breaks in a search whose trials have `epochs` epochs.

        A default breaks none: in a search of one epoch there is nothing to prune.
        """
        key = self.first_epoch_key
        if key is None or (value := getattr(self, key)) in range(epochs):
            return {}
        if value == type(self).model_fields[key].default:
            return {}
        return {key: f"{value} is not below search.epochs ({epochs}), so nothing would be pruned"}
