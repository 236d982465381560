"""When the parameters of a space apply."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpo.values.domains import Point, Value, is_among


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


Conditions = Mapping[str, tuple[Condition, ...]]
"""The conditions of each parameter that has some. A parameter applies where all of them hold."""


def applies(name: str, conditions: Conditions, params: Mapping[str, Value]) -> bool:
    """Return whether a parameter applies, given the parents that apply and their values."""
    return all(condition.holds(params) for condition in conditions.get(name, ()))


def applicable(values: Mapping[str, Value], conditions: Conditions) -> Point:
    """Return the values of the parameters that apply, in their order."""
    if not conditions:
        return dict(values)
    point: Point = {}
    for name in parents_first(values, conditions):
        if applies(name, conditions, point):
            point[name] = values[name]
    return {name: point[name] for name in values if name in point}


def parents_first(names: Iterable[str], conditions: Conditions) -> list[str]:
    """Return the names in an order in which the parents of a condition precede its parameter."""
    waiting, ordered = dict.fromkeys(names), dict[str, None]()

    def add(name: str) -> None:
        if name in ordered or name not in waiting:
            return
        for condition in conditions.get(name, ()):
            add(condition.parent)
        ordered[name] = None

    for name in waiting:
        add(name)
    return list(ordered)


def parents_of(names: Iterable[str], conditions: Conditions) -> set[str]:
    """Return the parents of the conditions of these parameters."""
    return {condition.parent for name in names for condition in conditions.get(name, ())}
