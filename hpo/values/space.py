"""The search space: named parameters with their domains."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Value = int | float
Point = dict[str, Value]
"""One value for each parameter of a space."""

Cell = tuple[tuple[str, float], ...]
"""Identifies a point of a finite space: two points have equal cells exactly when their values are equal."""


@dataclass(frozen=True, slots=True)
class Choices:
    """A list of values, drawn uniformly."""

    values: tuple[Value, ...]

    @property
    def size(self) -> int:
        return len(self.values)

    def at(self, index: int) -> Value:
        return self.values[index]

    def draw(self, rng: np.random.Generator) -> Value:
        return self.values[int(rng.integers(len(self.values)))]

    def __contains__(self, value: Value) -> bool:
        return value in self.values


@dataclass(frozen=True, slots=True)
class Range:
    """All values from `low` to `high`, both included, drawn uniformly.

    With `log` the draw is uniform in the logarithm. With `step` the values are `low + k * step`, and `high`
    is one of them. With `integer` the values are whole numbers; the default step is then 1.
    """

    low: Value
    high: Value
    log: bool = False
    step: Value | None = None
    integer: bool = False

    @property
    def size(self) -> int | None:
        """Return the number of values, None if uncountable."""
        step = self.step or (1 if self.integer else None)
        return None if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1

    def at(self, index: int) -> Value:
        # Clipped to `high` as in Optuna: 0.1 + 2 * 0.1 is above 0.3.
        return min(self.low + index * (self.step or 1), self.high)

    def draw(self, rng: np.random.Generator) -> Value:
        if self.log:
            margin = 0.5 if self.integer else 0.0  # otherwise rounding draws both ends half as often
            value = math.exp(rng.uniform(math.log(self.low - margin), math.log(self.high + margin)))
            return min(max(round(value) if self.integer else value, self.low), self.high)
        if self.size is not None:
            return self.at(int(rng.integers(self.size)))
        return float(rng.uniform(self.low, self.high))

    def __contains__(self, value: Value) -> bool:
        if not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.integer else None)
        if step is None:
            return True
        offset = (value - self.low) / step
        return math.isclose(offset, round(offset), abs_tol=1e-9)


Domain = Choices | Range


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The domains of all parameters, in the order of the study file."""

    domains: Mapping[str, Domain]

    @property
    def cells(self) -> int | None:
        """Return the number of points of a finite space, None if the space is not finite."""
        sizes = [domain.size for domain in self.domains.values()]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def point_at(self, index: int) -> Point:
        """Return the point at `index` of a finite space; the last parameter varies fastest."""
        point: Point = {}
        for name, domain in reversed(list(self.domains.items())):
            assert domain.size is not None, "only a finite space has cells"
            index, value_index = divmod(index, domain.size)
            point[name] = domain.at(value_index)
        return {name: point[name] for name in self.domains}

    def draw(self, rng: np.random.Generator) -> Point:
        return {name: domain.draw(rng) for name, domain in self.domains.items()}

    def __contains__(self, point: Point) -> bool:
        return point.keys() == self.domains.keys() and all(
            point[name] in domain for name, domain in self.domains.items()
        )


def cell(point: Point) -> Cell:
    """Return the cell of a point: its names and values, independent of their order and number type."""
    return tuple(sorted((name, float(value)) for name, value in point.items()))
