"""Refits: full trainings that are repeated on all training images, for the epochs that validation chose."""

import math
from collections.abc import Mapping, Sequence

from hpo.values.budget import Phase
from hpo.values.vocabulary import PackKey

_MARK = ("images", "all")


def refit_key(key: PackKey) -> PackKey:
    """Return the pack key of the refit of a training with this key."""
    return (*key, _MARK)


def is_refit(key: PackKey) -> bool:
    """Return whether the pack key is that of refits."""
    return _MARK in key


def epoch_limits(phases: Sequence[Phase], costs: Mapping[int, float], kept: int) -> tuple[int, ...]:
    """Return the epochs of each phase of a refit; it ends with the last of them.

    `costs` of the training that is repeated, by epoch from 1. `kept`: the epoch whose weights are its result.
    A later phase began from the best weights before it, so the refit leaves the earlier phase at their epoch.
    """
    ends = _phase_ends(phases, costs)
    limits: list[int] = []
    target = kept
    # Two phases at most: one that gave no better weights is the last, and no phase is skipped.
    for start in reversed([0, *ends[:-1]]):
        if target > start:
            limits.insert(0, target - start)
            target = min(range(1, start + 1), key=lambda epoch: costs.get(epoch, math.inf), default=0)
    return tuple(limits)


def _phase_ends(phases: Sequence[Phase], costs: Mapping[int, float]) -> list[int]:
    """Return the last epoch of each phase, as early stopping has ended it."""
    ends, epoch, last = [], 0, max(costs, default=0)
    for phase in phases:
        first, stale, best = epoch, 0, math.inf
        while epoch < min(first + phase.epochs, last) and (phase.patience is None or stale < phase.patience):
            epoch += 1
            cost = costs.get(epoch, math.inf)
            best, stale = (cost, 0) if cost < best else (best, stale + 1)
        ends.append(epoch)
    return ends
