"""Statistics with their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, spearmanr, t

LEAST_PAIRS = 5
"""Pairs below which a rank correlation is not computed."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float

    def describe(self, form: str = ".2f") -> str:
        """Return the figure with its interval in words."""
        return f"{self.value:{form}} (95% interval {self.low:{form}} to {self.high:{form}})"


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> Estimate | None:
    """Return Spearman's rank correlation. None for fewer than `LEAST_PAIRS` pairs, or where all are equal.

    The interval is that of Bonett and Wright (2000): Fisher's z with the variance (1 + r^2/2) / (n - 3).
    """
    if len(pairs) < LEAST_PAIRS:
        return None
    first, second = np.array(pairs).T
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    value = float(spearmanr(first, second).statistic)
    z = math.atanh(min(max(value, -0.9999), 0.9999))
    half_width = norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt((1 + value**2 / 2) / (len(pairs) - 3))
    return Estimate(value, math.tanh(z - half_width), math.tanh(z + half_width))


def share(successes: int, count: int) -> Estimate:
    """Return a share with Wilson's interval. `count` is at least 1."""
    z = norm.ppf((1 + CONFIDENCE) / 2)
    value = successes / count
    middle = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    half_width = z * math.sqrt(value * (1 - value) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return Estimate(value, max(0.0, middle - half_width), min(1.0, middle + half_width))


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the half-width of its 95% interval by Student's t. None for a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error


def median_interval(values: Sequence[float]) -> Estimate:
    """Return the median with the interval between order statistics, which holds for any distribution."""
    ordered = np.sort(np.array(values))
    count = len(ordered)
    reach = norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt(count) / 2
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    return Estimate(
        float(np.median(ordered)), float(ordered[max(0, low)]), float(ordered[min(count - 1, high)])
    )
