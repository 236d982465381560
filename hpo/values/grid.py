"""The points of a finite space, counted and numbered without listing them."""

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from hpo.values.conditions import Conditions, applies, parents_first, parents_of
from hpo.values.constraints import Comparison
from hpo.values.domains import Domain, Point, Value

MAX_NODES = 100_000
"""Values that are tried at most to count a space, which takes up to a second."""


class TooManyError(Exception):
    """A space has more combinations than `MAX_NODES`."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Parameters that depend on each other: all their combinations, and the points that each stands for.

    `weights[k]`: the product of the sizes of the parameters outside all groups that apply only in a
    combination such as `points[k]`. `ends`: the running sums of the weights.
    """

    points: Sequence[Point]
    weights: Sequence[int]
    ends: Sequence[int]

    @property
    def size(self) -> int:
        return self.ends[-1] if self.ends else 0


class Grid:
    """The points of a finite space in order.

    Parents of conditions and parameters in constraints vary slowest. Those of them that depend on each other
    form a group, whose combinations are listed. The other parameters are free: their sizes are multiplied.
    Raises `TooManyError` if there are too many combinations to list.
    """

    def __init__(
        self, domains: Mapping[str, Domain], conditions: Conditions, comparisons: Sequence[Comparison]
    ) -> None:
        """List the combinations of each group. Every domain is countable."""
        self._domains, self._conditions = domains, conditions
        parents = parents_of(domains, conditions)
        constrained = {name for comparison in comparisons for name in comparison.names}
        listed = parents_first([name for name in domains if name in parents | constrained], conditions)
        self._free = [name for name in domains if name not in listed]
        budget = Budget()
        self._groups = [
            self._group(names, comparisons, budget)
            for names in _components(listed, domains, conditions, comparisons)
        ]
        always = [name for name in self._free if name not in conditions]
        self._rest = math.prod(self._size(name) for name in always)
        self.size: int = self._rest * math.prod(group.size for group in self._groups)

    def point_at(self, index: int) -> Point:
        """Return the point at `index`. The last free parameter varies fastest."""
        point: Point = {}
        block, weight = self.size, 1
        for group in self._groups:
            block //= group.size
            place = bisect_right(group.ends, index // (weight * block))
            index -= (group.ends[place] - group.weights[place]) * weight * block
            weight *= group.weights[place]
            point |= group.points[place]
        for name in reversed([name for name in self._free if applies(name, self._conditions, point)]):
            index, value_index = divmod(index, self._size(name))
            point[name] = self._domains[name].at(value_index)
        return {name: point[name] for name in self._domains if name in point}

    def _group(self, names: Sequence[str], comparisons: Sequence[Comparison], budget: "Budget") -> _Group:
        children = [name for name in self._free if parents_of([name], self._conditions).intersection(names)]
        points = list(combinations(names, self._domains, self._conditions, comparisons, budget))
        weights = [
            math.prod(self._size(name) for name in children if applies(name, self._conditions, point))
            for point in points
        ]
        return _Group(points, weights, list(accumulate(weights)))

    def _size(self, name: str) -> int:
        size = self._domains[name].size
        assert size is not None, "a grid has countable domains only"
        return size


@dataclass(slots=True)
class Budget:
    """The values that may still be tried."""

    left: int = MAX_NODES

    def spend(self) -> None:
        """Count a value. Raises `TooManyError` if none was left."""
        self.left -= 1
        if self.left < 0:
            raise TooManyError


def combinations(
    names: Sequence[str],
    domains: Mapping[str, Domain],
    conditions: Conditions,
    comparisons: Iterable[Comparison] = (),
    budget: Budget | None = None,
) -> Iterator[Point]:
    """Yield each combination of values that meets the comparisons, without parameters that do not apply.

    `names` have parents first. The first parameter varies slowest. Raises `TooManyError`.
    """
    budget = budget or Budget()
    places = {name: place for place, name in enumerate(names)}
    decided: list[list[Comparison]] = [[] for _ in names]
    for comparison in comparisons:
        if comparison.names <= places.keys():
            decided[max(places[name] for name in comparison.names)].append(comparison)

    if any((domains[name].size or 0) > MAX_NODES for name in names):
        raise TooManyError
    values = [values_of(domains[name]) for name in names]
    point: Point = {}

    def extend(place: int) -> Iterator[Point]:
        if place == len(names):
            yield dict(point)
            return
        name, checks = names[place], decided[place]
        if not applies(name, conditions, point):
            if all(comparison.holds(point) for comparison in checks):
                yield from extend(place + 1)
            return
        for value in values[place]:
            budget.spend()
            point[name] = value
            if all(comparison.holds(point) for comparison in checks):
                yield from extend(place + 1)
        del point[name]

    yield from extend(0)


def values_of(domain: Domain) -> list[Value]:
    """Return all values of a countable domain."""
    assert domain.size is not None, "a continuous range has no list of values"
    return [domain.at(index) for index in range(domain.size)]


def _components(
    listed: Sequence[str],
    domains: Mapping[str, Domain],
    conditions: Conditions,
    comparisons: Iterable[Comparison],
) -> list[list[str]]:
    """Return the `listed` parameters in groups that depend on each other, in order of their first members."""
    group_of = {name: name for name in listed}
    links: list[Collection[str]] = [comparison.names for comparison in comparisons]
    links += [parents_of([name], conditions) | {name} for name in domains if conditions.get(name)]
    for link in links:
        first, *others = {group_of[name] for name in link if name in group_of}
        group_of = {name: first if group in others else group for name, group in group_of.items()}
    groups: dict[str, list[str]] = {}
    for name in listed:
        groups.setdefault(group_of[name], []).append(name)
    return list(groups.values())
