"""The search space: named parameters with their domains, and when each applies."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Number = int | float
Value = int | float | str | bool
Point = dict[str, Any]
"""One `Value` for each parameter of a space that applies. The registry knows the kind of each."""

Cell = tuple[tuple[str, Value], ...]
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
        return is_among(value, self.values)


@dataclass(frozen=True, slots=True)
class Range:
    """All values from `low` to `high`, both included, drawn uniformly.

    With `log` the draw is uniform in the logarithm. With `step` the values are `low + k * step`, and `high`
    is one of them. With `integer` the values are whole numbers; the default step is then 1.
    """

    low: Number
    high: Number
    log: bool = False
    step: Number | None = None
    integer: bool = False

    @property
    def size(self) -> int | None:
        """Return the number of values, None if uncountable."""
        step = self.step or (1 if self.integer else None)
        return None if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1

    def at(self, index: int) -> Number:
        # Clipped to `high` as in Optuna: 0.1 + 2 * 0.1 is above 0.3.
        return min(self.low + index * (self.step or 1), self.high)

    def draw(self, rng: np.random.Generator) -> Number:
        if self.log:
            margin = 0.5 if self.integer else 0.0  # otherwise rounding draws both ends half as often
            value = math.exp(rng.uniform(math.log(self.low - margin), math.log(self.high + margin)))
            return min(max(round(value) if self.integer else value, self.low), self.high)
        if self.size is not None:
            return self.at(int(rng.integers(self.size)))
        return float(rng.uniform(self.low, self.high))

    def __contains__(self, value: Value) -> bool:
        if isinstance(value, str | bool) or not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.integer else None)
        if step is None:
            return True
        offset = (value - self.low) / step
        return math.isclose(offset, round(offset), abs_tol=1e-9)


Domain = Choices | Range


@dataclass(frozen=True, slots=True)
class Condition:
    """A parameter applies where the parameter `parent` has one of `values`."""

    parent: str
    values: tuple[Value, ...]

    def holds(self, params: Mapping[str, Value]) -> bool:
        """Return whether `params` has the parent with one of the values."""
        return self.parent in params and is_among(params[self.parent], self.values)

    def __str__(self) -> str:
        return f"{self.parent} is {' or '.join(map(str, self.values))}"


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The domains of all parameters in order, and the conditions under which some of them apply.

    The parent of a condition is a parameter of the space with a countable domain. A parameter without a
    condition always applies. A parameter whose parent does not apply does not apply either.
    """

    domains: Mapping[str, Domain]
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    @property
    def cells(self) -> int | None:
        """Return the number of points of a finite space, None if the space is not finite."""
        sizes = [domain.size for domain in self.domains.values()]
        if None in sizes:
            return None
        return sum(self._count(self._free(fixed)) for fixed in self._parent_points())

    def point_at(self, index: int) -> Point:
        """Return the point at `index` of a finite space.

        The last parameter varies fastest, and the parents of conditions vary slowest.
        """
        for fixed in self._parent_points():
            free = self._free(fixed)
            count = self._count(free)
            if index < count:
                break
            index -= count
        point = dict(fixed)
        for name in reversed(free):
            domain = self.domains[name]
            assert domain.size is not None, "only a finite space has cells"
            index, value_index = divmod(index, domain.size)
            point[name] = domain.at(value_index)
        return {name: point[name] for name in self.domains if name in point}

    def draw(self, rng: np.random.Generator) -> Point:
        """Draw a random point."""
        # All parameters are drawn, so that the values do not depend on which of them apply.
        return self.applicable({name: domain.draw(rng) for name, domain in self.domains.items()})

    def applicable(self, values: Mapping[str, Value]) -> Point:
        """Return the point of the parameters that apply, from a value for each parameter."""
        return applicable(values, self.conditions)

    def __contains__(self, point: Point) -> bool:
        return (
            all(name in self.domains and value in self.domains[name] for name, value in point.items())
            and self._names(point) == point.keys()
        )

    def _names(self, point: Point) -> set[str]:
        """Return the names of the parameters that apply, given the values of their parents."""
        conditions = self.conditions
        return {name for name in self.domains if name not in conditions or conditions[name].holds(point)}

    def _parent_points(self) -> Iterator[Point]:
        """Yield each combination of values of the parents, without parents that do not apply."""
        parents = {condition.parent for condition in self.conditions.values()}
        names = _parents_first([name for name in self.domains if name in parents], self.conditions)
        yield from self._combinations(names, {})

    def _combinations(self, names: Sequence[str], fixed: Point) -> Iterator[Point]:
        if not names:
            yield fixed
            return
        name, *rest = names
        if name in self.conditions and not self.conditions[name].holds(fixed):
            yield from self._combinations(rest, fixed)
            return
        size = self.domains[name].size
        assert size is not None, "a parent has a countable domain"
        for index in range(size):
            yield from self._combinations(rest, {**fixed, name: self.domains[name].at(index)})

    def _free(self, fixed: Point) -> list[str]:
        """Return the parameters that apply and are no parents, given the values of the parents."""
        parents = {condition.parent for condition in self.conditions.values()}
        names = self._names(fixed)
        return [name for name in self.domains if name in names and name not in parents]

    def _count(self, names: Collection[str]) -> int:
        return math.prod(self.domains[name].size or 0 for name in names)


def applicable(values: Mapping[str, Value], conditions: Mapping[str, Condition]) -> Point:
    """Return the values of the parameters that apply, in their order."""
    point: Point = {}
    for name in _parents_first(list(values), conditions):
        if name not in conditions or conditions[name].holds(point):
            point[name] = values[name]
    return {name: point[name] for name in values if name in point}


def cell(point: Point) -> Cell:
    """Return the cell of a point: its names and values, independent of their order and number type."""
    return tuple(
        (name, value if isinstance(value, str | bool) else float(value))
        for name, value in sorted(point.items())
    )


def is_among(value: Value, values: Collection[Value]) -> bool:
    """Return whether `value` is one of `values`. True and 1 are different values, 1 and 1.0 are not."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def _parents_first(names: Sequence[str], conditions: Mapping[str, Condition]) -> list[str]:
    """Return the names in an order in which the parent of a condition precedes its parameter."""
    ordered: list[str] = []

    def add(name: str) -> None:
        if name in ordered or name not in names:
            return
        if name in conditions:
            add(conditions[name].parent)
        ordered.append(name)

    for name in names:
        add(name)
    return ordered
