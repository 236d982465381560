"""The rungs of successive halving."""

from collections.abc import Collection
from typing import Self

from pydantic import Field

from hpo.search.pruners.base import PrunerSection
from hpo.values.space import Choices, SearchSpace

LONG_EPOCHS = 6
"""The fewest epochs of a trial whose first epochs say little about its last one."""


def rung_epochs(min_epochs: int, reduction: int, epochs: int, stop_rate: int = 0) -> list[int]:
    """Return the epochs of the rungs: all min_epochs * reduction^(stop_rate + k) below `epochs`.

    Li et al. 2018 (arXiv 1810.05934), algorithm 2, with r = min_epochs, eta = reduction, s = stop_rate.
    """
    rungs, epoch = [], min_epochs * reduction**stop_rate
    while epoch < epochs:
        rungs.append(epoch)
        epoch *= reduction
    return rungs


def passing_share(rungs: Collection[int], reduction: int, epoch: int) -> float:
    """Return the share of trials that pass all rungs before `epoch`, one in `reduction` at each rung."""
    passed: float = reduction ** -sum(rung < epoch for rung in rungs)
    return passed


def default_rung(epochs: int, space: SearchSpace) -> int:
    """Return the epoch of the first rung in a study whose file does not name it.

    While a learning rate is high, losses rank trials by their learning rates. In long trials the first
    epochs are like this, and with an annealing schedule those of any trial.
    """
    return max(1, round(epochs / 3)) if epochs >= LONG_EPOCHS or _anneals(space) else 1


def _anneals(space: SearchSpace) -> bool:
    schedule = space.domains.get("schedule") if space.knows("schedule") else None
    return isinstance(schedule, Choices) and any(value != "constant" for value in schedule.values)


class RungSection(PrunerSection):
    """The keys of a pruner with rungs."""

    first_epoch_key = "min_epochs"

    min_epochs: int = Field(
        default=1,
        ge=1,
        description="Epoch of the first rung. Unset: a third of `search.epochs`, rounded, if that key is "
        f"{LONG_EPOCHS} or more or the space has a `schedule` other than `constant`. Otherwise 1.",
    )
    reduction: int = Field(default=3, ge=2, description="One in `reduction` trials passes a rung.")

    def resolved(self, epochs: int, space: SearchSpace) -> Self:
        return self._with_default(default_rung(epochs, space))

    def keeping(self, stored: PrunerSection) -> Self:
        return self._with_default(stored.min_epochs) if isinstance(stored, type(self)) else self

    def _with_default(self, min_epochs: int) -> Self:
        if "min_epochs" in self.model_fields_set:
            return self
        section = self.model_copy(update={"min_epochs": min_epochs})
        section.model_fields_set.discard("min_epochs")  # the file has not set it
        return section
