"""Intervals of accuracies, over seeds and over the sampled images.

All seeds of a network are scored on the same images. Whether seed s classifies image i right is the sum of a
mean, an effect of the seed, an effect of the image, and their interaction: a random-effects analysis of
variance with two ways. The variance of the mean over S seeds and N images is

    var(seeds) / S + var(images) / N + var(interaction) / (S N)

and each part follows from the sums of squares. A single seed has no variance over seeds of
its own, and borrows that of other cells of the network.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, t

Hits = npt.NDArray[np.bool_]
"""Whether each of S seeds classifies each of N images right, `(S, N)`."""

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the ends of its 95% interval, as shares.

    `has_seeds`: whether the interval includes the spread over seeds. If not, it is that of the images alone.
    """

    value: float
    low: float
    high: float
    has_seeds: bool

    @property
    def half(self) -> float:
        """Return half of the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def is_tie(self) -> bool:
        """Return whether the interval of a difference contains 0."""
        return self.low <= 0 <= self.high


def mean_interval(hits: Hits, others: Sequence[Hits] = ()) -> Interval:
    """Return the mean accuracy of the seeds with its interval.

    `others`: cells of the same network, whose variance over seeds a single seed borrows.
    """
    seeds, images = hits.shape
    by_image = hits.mean(0)
    variance = by_image.var(ddof=1) / images - _interaction(hits) / (seeds * images)
    parts = [(max(0.0, variance), images - 1.0), *_seed_part([hits], others)]
    return _interval(float(hits.mean()), parts, has_seeds=len(parts) > 1)


def difference_interval(a: Hits, b: Hits, others: Sequence[Hits] = ()) -> Interval:
    """Return the mean accuracy of `a` minus that of `b`, with its interval.

    Both are scored on the same N images, `(S_a, N)` and `(S_b, N)`, so that the effect of an image on both
    cancels. `others` as in `mean_interval`.
    """
    images = a.shape[1]
    by_image = a.mean(0) - b.mean(0)
    noise = sum(_interaction(hits) / (len(hits) * images) for hits in (a, b))
    variance = by_image.var(ddof=1) / images - noise
    parts = [(max(0.0, variance), images - 1.0), *_seed_part([a, b], others)]
    return _interval(float(by_image.mean()), parts, has_seeds=len(parts) > 1)


def paired_interval(differences: Sequence[float]) -> Interval:
    """Return the mean of differences, one per seed, with the t-interval over the seeds.

    A single difference has no interval: its ends are infinite.
    """
    count, mean = len(differences), float(np.mean(differences))
    if count < 2:
        return Interval(mean, -math.inf, math.inf, False)
    variance = float(np.var(differences, ddof=1)) / count
    return _interval(mean, [(variance, count - 1.0)], has_seeds=True)


def mcnemar(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Return the p-value of McNemar's exact test of two classifiers, `(N,)` each, on the same images."""
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def _interaction(hits: Hits) -> float:
    """Return the variance of the interaction of seeds and images, 0 for a single seed."""
    seeds, images = hits.shape
    if seeds < 2:
        return 0.0
    residuals = hits - hits.mean(0) - hits.mean(1, keepdims=True) + hits.mean()
    return float((residuals**2).sum() / ((seeds - 1) * (images - 1)))


def _seed_part(groups: Sequence[Hits], others: Sequence[Hits]) -> list[tuple[float, float]]:
    """Return the variance that the choice of seeds gives to a difference of the means of groups, with its
    degrees of freedom. Empty if nothing was trained with two seeds."""
    known = groups if any(len(hits) > 1 for hits in groups) else others
    free = sum(len(hits) - 1.0 for hits in known)
    if not free:
        return []
    squares = sum(float(((hits.mean(1) - hits.mean()) ** 2).sum()) for hits in known)
    return [(squares / free * sum(1 / len(hits) for hits in groups), free)]


def _interval(value: float, parts: Sequence[tuple[float, float]], *, has_seeds: bool) -> Interval:
    """Return the interval of a value whose variance is a sum of parts, each with degrees of freedom.

    The degrees of freedom of the sum are those of Welch and Satterthwaite.
    """
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Interval(value, value, value, has_seeds)
    free = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(t.ppf((1 + LEVEL) / 2, free)) * math.sqrt(variance)
    return Interval(value, value - half, value + half, has_seeds)
