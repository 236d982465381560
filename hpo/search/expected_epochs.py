"""How many epochs the trials of a stage are expected to train: pure functions of counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpo.search.pruners.base import Pruner


@dataclass(frozen=True, slots=True)
class EpochRange:
    """A number of epochs: the expected number, and bounds of what may come true."""

    expected: float
    low: float
    high: float

    def capped(self, limit: float) -> "EpochRange":
        """Return the range with no number above `limit`."""
        return EpochRange(*(min(number, limit) for number in (self.expected, self.low, self.high)))

    def __add__(self, other: "EpochRange") -> "EpochRange":
        return EpochRange(self.expected + other.expected, self.low + other.low, self.high + other.high)


LEAST, MOST = 0.35, 1.8
"""Bounds of the epochs beyond the first rung, in multiples of the expected ones. With few trials, chance
decides how many pass a rung. Chosen to fit replays on LeNet's table with 16 to 100 trials; how many
searches stay within them on other replays is not measured."""

NOTHING = EpochRange(0.0, 0.0, 0.0)


def expected_counts(pruner: Pruner, trials: int, epochs: int, completing: int) -> list[float]:
    """Return how many of `trials` are expected to train each epoch, from epoch 1 to `epochs`.

    `completing`: the least number of trials that train to the last epoch, whatever the pruner.
    """
    unpruned = min(trials, pruner.unpruned_trials)
    shares = (pruner.expected_share(epoch) for epoch in range(1, epochs + 1))
    return [max(unpruned + (trials - unpruned) * share, min(trials, completing)) for share in shares]


def remaining_epochs(
    counts: Sequence[float], open_trials: Iterable[int], ended_trials: Iterable[int]
) -> EpochRange:
    """Return how many epochs the open trials of a search are still expected to train.

    `counts` are the `expected_counts` of all trials. `open_trials` and `ended_trials` hold the epochs that
    each trial has trained, 0 for a trial that has not begun. The bounds leave room for what the pruner
    decides.
    """
    opened, ended = list(open_trials), list(ended_trials)
    expected = certain = 0.0
    for epoch, count in enumerate(counts, start=1):
        left = sum(trained < epoch for trained in opened)
        reached = len(opened) - left + sum(trained >= epoch for trained in ended)
        expected += min(left, max(0.0, count - reached))
        if count >= len(opened) + len(ended):
            certain += left
    pruned = expected - certain
    high = min(certain + MOST * pruned, sum(len(counts) - trained for trained in opened))
    return EpochRange(expected, certain + LEAST * pruned, high)
