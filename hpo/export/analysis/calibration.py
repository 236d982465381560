"""Calibration: whether a classifier that is 80% sure is right in 80% of the cases."""

import math
from dataclasses import dataclass

import numpy as np

from hpo.export.analysis.interval import wilson_interval
from hpo.export.analysis.predictions import Predictions

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """The examples whose confidence is above `low` and at most `high`.

    `confidence` and `accuracy` are means, `interval` is the 95% Wilson interval of the accuracy. Without
    examples, they are None.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of the predicted class over bins of equal width, and the Brier score.

    ece         expected calibration error: mean over the examples of |accuracy - confidence| of their bin
                (Guo et al. 2017), 0 to 1
    ece_error   its standard error, from the binomial errors of the bins' accuracies
    ece_chance  what a perfectly calibrated classifier has on average on as many examples
    excess      mean confidence minus accuracy: above 0, the classifier is too sure
    brier       mean over the examples of the sum over all classes of (probability - truth)^2, 0 to 2
    """

    bins: tuple[Bin, ...]
    ece: float
    ece_error: float
    ece_chance: float
    excess: float
    brier: float


def calibration(predictions: Predictions, bins: int = BINS) -> Calibration:
    """Return the calibration of at least one prediction."""
    confidence = predictions.confidence.astype(np.float64)
    correct = predictions.predicted == predictions.labels
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # (N,)

    def sums(weights: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> list[float]:
        return [float(value) for value in np.bincount(index, weights, minlength=bins)]

    rows, gap, variance, chance = [], 0.0, 0.0, 0.0
    counts = np.bincount(index, minlength=bins).tolist()
    columns = zip(counts, sums(confidence), sums(correct), sums(confidence * (1 - confidence)), strict=True)
    for number, (count, sure, right, spread) in enumerate(columns):
        edges = number / bins, (number + 1) / bins
        if not count:
            rows.append(Bin(*edges, 0, None, None, None))
            continue
        rows.append(Bin(*edges, count, sure / count, right / count, wilson_interval(round(right), count)))
        gap += abs(right - sure)
        variance += right * (1 - right / count)
        # Under perfect calibration, right - sure is about normal: its absolute value is half-normal.
        chance += math.sqrt(2 / math.pi * max(0.0, spread))
    n = len(predictions)
    return Calibration(
        tuple(rows),
        ece=gap / n,
        ece_error=math.sqrt(variance) / n,
        ece_chance=chance / n,
        excess=float(confidence.mean() - correct.mean()),
        brier=float(predictions.square_error.mean(dtype=np.float64)),
    )
