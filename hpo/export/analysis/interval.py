"""The uncertainty of a proportion."""

from dataclasses import dataclass

from scipy.stats import binomtest


@dataclass(frozen=True, slots=True)
class Rate:
    """An accuracy with its 95% Wilson interval."""

    accuracy: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, correct: int, n: int) -> "Rate":
        return cls(correct / n, wilson_interval(correct, n))


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95% score interval of a proportion (Wilson 1927)."""
    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
