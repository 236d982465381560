"""Evaluations that finish while the next epoch trains, as on a GPU, but on any device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass
class DelayedOutcome:
    """A matrix that counts as computed after `polls` calls of `done`."""

    compute: Callable[[], Tensor]
    polls: int

    def done(self) -> bool:
        self.polls -= 1
        return self.polls < 0

    def values(self) -> list[list[float]]:
        values: list[list[float]] = self.compute().tolist()
        return values


class DelayedEvaluation:
    """An `AsyncEvaluator` whose evaluations are done after `polls` polls, and computed when they are read.

    `waits` counts the calls of `wait`.
    """

    def __init__(self, polls: int) -> None:
        self._polls, self.waits = polls, 0

    def begin(self, compute: Callable[[], Tensor]) -> DelayedOutcome:
        return DelayedOutcome(compute, self._polls)

    def wait(self) -> None:
        self.waits += 1
