"""Pairs of classes that a classifier confuses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Two classes, and the errors between them.

    forward    examples of the first class that were taken for the second
    backward   examples of the second class that were taken for the first
    errors     sum of both
    share      of all errors
    rate       of the examples of both classes
    guess      errors of a classifier that always answers the more frequent of the two classes
    """

    classes: tuple[str, str]
    forward: int
    backward: int
    errors: int
    share: float
    rate: float
    guess: int


def pair_of(confusion: Counts, classes: Sequence[str], first: int, second: int) -> ConfusedPair:
    """Return the errors between two classes. `confusion`: `(classes, classes)`, row true."""
    forward, backward = int(confusion[first, second]), int(confusion[second, first])
    all_errors = int(confusion.sum() - confusion.trace())
    supports = int(confusion[first].sum()), int(confusion[second].sum())
    errors = forward + backward
    return ConfusedPair(
        (classes[first], classes[second]),
        forward,
        backward,
        errors,
        share=errors / max(1, all_errors),
        rate=errors / max(1, sum(supports)),
        guess=min(supports),
    )


def most_confused(confusion: Counts, classes: Sequence[str], top: int) -> tuple[ConfusedPair, ...]:
    """Return the `top` pairs with the most errors, most first. Pairs without errors are left out."""
    both = np.triu(confusion + confusion.T, k=1)
    firsts, seconds = np.nonzero(both)
    order = np.argsort(-both[firsts, seconds], kind="stable")[:top]
    return tuple(pair_of(confusion, classes, int(firsts[i]), int(seconds[i])) for i in order)
