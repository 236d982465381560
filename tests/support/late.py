"""Evaluations beside the training, as on a GPU, on any device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Outcome:
    compute: Callable[[], Tensor]
    questions: int

    def done(self) -> bool:
        self.questions -= 1
        return self.questions < 0

    def values(self) -> list[list[float]]:
        values: list[list[float]] = self.compute().tolist()
        return values


class Late:
    """An overlap whose outcomes are there once they have been asked for so often, and computed only then."""

    def __init__(self, questions: int) -> None:
        self._questions, self.waits = questions, 0

    def begin(self, compute: Callable[[], Tensor]) -> Outcome:
        return Outcome(compute, self._questions)

    def wait(self) -> None:
        self.waits += 1
