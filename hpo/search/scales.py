"""Losses from costs: positive numbers, whose logarithms curve models and the Gaussian process work with."""

import math
from collections.abc import Callable, Collection, Mapping

import numpy as np

from hpo.values.objective import Objective

Curve = Mapping[int, float]
Scale = Callable[[float], float]
"""Maps a cost to a loss: a positive number, and the lower the better."""

SPREAD = 0.5
"""What the middle half of the log losses of a standardised metric spans."""

LEAST_SHARE = 1e-9
"""A smaller share is one of rounding."""

LARGEST_LOG = 50.0
"""The largest distance of a standardised log loss from the median."""


def scale_of(objective: Objective, curves: Collection[Curve]) -> Scale:
    """Return the scale for a study with these curves of costs. Finite costs have finite losses.

    A positive cost, such as a loss, is its own loss. The error 1 - share may be 0, where the logarithm would
    say that a right image more is worth more than all others: its loss is at least half of the least error
    above 0. Other costs may have any sign and unit: the logarithm of their loss is the cost, standardised
    over the last epochs of all curves.
    """
    if objective.values == "positive":
        return lambda cost: cost
    if objective.values == "share":
        errors = (cost for curve in curves for cost in curve.values() if LEAST_SHARE < cost < math.inf)
        least = min(errors, default=1.0) / 2
        return lambda cost: max(cost, least) if math.isfinite(cost) else cost
    last = [cost for curve in curves if curve and math.isfinite(cost := curve[max(curve)])]
    low, median, high = np.percentile(last, [25, 50, 75]).tolist() if last else (0.0, 0.0, 0.0)
    unit = (high - low) / SPREAD or 1.0

    def loss(cost: float) -> float:
        if not math.isfinite(cost):
            return cost
        return math.exp(min(max((cost - median) / unit, -LARGEST_LOG), LARGEST_LOG))

    return loss
