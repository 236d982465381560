"""Accuracies with their intervals as plain values, and sentences that compare them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.paper.intervals import Hits, Interval, difference_interval, mcnemar, mean_interval
from benchmarks.paper.trained import mean_and_spread

Figures = dict[str, Any]


def score(hits: Hits, others: Sequence[Hits] = ()) -> Figures:
    """Return mean, spread over seeds and interval of the accuracy of hits `(S, N)`.

    `others` as in `mean_interval`.
    """
    accuracies = [float(value) for value in hits.mean(1)]
    mean, deviation = mean_and_spread(accuracies)
    return {
        "accuracies": accuracies,
        "mean": mean,
        "deviation": deviation,
        "interval": asdict(mean_interval(hits, others)),
        "n": hits.shape[1],
    }


def difference(a: Hits, b: Hits, others: Sequence[Hits] = ()) -> Figures:
    """Return the mean accuracy of `a` minus that of `b` on the same images, with its interval.

    `mcnemar`: the p-value of McNemar's test of the first seeds.
    """
    return {**asdict(difference_interval(a, b, others)), "mcnemar": mcnemar(a[0], b[0])}


def compare(found: Hits | None, arms: Mapping[str, Hits | None]) -> tuple[Figures, dict[str, Figures]]:
    """Return the score of the parameters found, empty without one, and those of the arms by label.

    The score of an arm has the difference: parameters found minus arm.
    """
    known = {label: hits for label, hits in arms.items() if hits is not None}
    every = [hits for hits in (found, *known.values()) if hits is not None]
    scores = {label: score(hits, _others(every, hits)) for label, hits in known.items()}
    if found is None:
        return {}, scores
    for label, hits in known.items():
        scores[label]["difference"] = difference(found, hits, _others(every, found, hits))
    return score(found, _others(every, found)), scores


def _others(every: Sequence[Hits], *without: Hits) -> list[Hits]:
    return [hits for hits in every if not any(hits is one for one in without)]


def as_interval(figures: Mapping[str, Any]) -> Interval:
    """Return the interval in the figures of a difference, or below `interval` of a score."""
    return Interval(*(figures[name] for name in ("value", "low", "high", "has_seeds")))


def verdict(subject: str, other: str, interval: Interval) -> str:
    """Return a sentence that compares two accuracies by the interval of their difference."""
    points, half = 100 * interval.value, 100 * interval.half
    relation = "better" if points >= 0 else "worse"
    words = f"{subject} {relation} than {other} by {abs(points):.2f} ± {half:.2f} points"
    if interval.is_tie:
        words += ": a tie"
    return words if interval.has_seeds else f"{words} (sampling of the images alone)"


def finite(value: Any) -> Any:
    """Return plain values with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
