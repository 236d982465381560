"""Domains as the unit interval, transformed as in Optuna's samplers.

A number of a range is at its quantile under a uniform draw. Each value of a list or a grid has an interval of
the same length.
"""

import math

from hpo.values.space import Choices, Domain, Range, Value


def value_at(domain: Domain, place: float) -> Value:
    """Return the value at a place in [0, 1].

    The floating-point operations are those of Optuna, because places of a sequence lie on the ends of
    intervals.
    """
    if isinstance(domain, Choices):
        return domain.at(min(int(place * domain.size), domain.size - 1))
    low, high = _ends(domain)
    value = low + place * (high - low)
    if domain.size is not None and not domain.log:
        index = math.floor((value - domain.low) / (domain.step or 1) + 0.5)
        return domain.at(min(max(index, 0), domain.size - 1))
    if domain.log:
        value = math.exp(value)
    return min(max(round(value) if domain.integer else value, domain.low), domain.high)


def place_of(domain: Domain, value: Value) -> float:
    """Return the place of a value: the middle of its interval, where it has one."""
    if isinstance(domain, Choices):
        return (domain.values.index(value) + 0.5) / domain.size
    assert not isinstance(value, str), "a range is one of numbers"
    low, high = _ends(domain)
    number = math.log(value) if domain.log else value
    return (number - low) / (high - low) if high > low else 0.5


def _ends(domain: Range) -> tuple[float, float]:
    """Return the ends of the intervals of all values, in logarithms if the range has them."""
    margin = 0.0 if domain.size is None else (domain.step or 1) / 2
    low, high = domain.low - margin, domain.high + margin
    return (math.log(low), math.log(high)) if domain.log else (low, high)
