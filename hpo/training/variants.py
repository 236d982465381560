"""The variants of a network that a space reaches by the keywords of its constructor."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from hpo import models
from hpo.errors import InputError, KeyInputError
from hpo.spec.mistakes import SpaceInputError
from hpo.values.grid import values_of
from hpo.values.parameters import MODEL_PREFIX, SET_BY_HPO, is_model_parameter
from hpo.values.space import Choices, Domain, Point, SearchSpace, Value, is_among
from hpo.values.wording import spelling_hint

MAX_OTHERS = 3
"""Values of a parent that are tried to find a point where a parameter does not apply."""

MAX_TRIED = 1000
"""Points that are tried to find one with a given value that meets the constraints."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The keywords `point` of a network. `varied`: the parameter that differs from the first variant."""

    point: Point
    varied: str | None

    @contextmanager
    def mistakes(self) -> Iterator[None]:
        """Name the varied parameter and its value in an InputError of the block that names no key."""
        try:
            yield
        except KeyInputError:  # of another key, such as that of a user's loss
            raise
        except InputError as error:
            if self.varied not in self.point:
                raise
            key = f"{self.varied} = {json.dumps(self.point[self.varied])}"
            raise SpaceInputError(key, str(error)) from error


def variants(space: SearchSpace) -> list[Variant]:
    """Return the network at the first value of each keyword, and at each other value of one keyword.

    A range has both of its ends as values. A network without keywords in the space has one variant. A first
    value that is the only keyword counts as varied. A variant that breaks the constraints of the space is
    left out. A keyword that applies only under a condition is left out in one variant.
    """
    names = [name for name in space.domains if is_model_parameter(name)]
    first = _point(space, {})
    if first is None:
        first = _keywords(space.example or {})
    found = [Variant(first, names[0] if len(names) == 1 else None)]
    for name in names:
        points = [_point(space, {name: value}) for value in _values(space.domains[name])]
        for point in [*points, _point_without(space, name)]:
            if point is not None and all(variant.point != point for variant in found):
                found.append(Variant(point, name))
    return found


def check_keywords(model: str, space: SearchSpace, decided: Collection[str]) -> None:
    """Raise SpaceInputError for a parameter that is no keyword of the network, or `decided` by the data."""
    words = {name: name.removeprefix(MODEL_PREFIX) for name in space.domains if is_model_parameter(name)}
    for name in words:
        if words[name] in decided:
            raise SpaceInputError(name, "the data decide this keyword of the network")
    known = models.keywords_of(model) if words else None
    if known is None:
        return
    for name, word in words.items():
        if word not in known:
            hint = spelling_hint(word, sorted(known - {*SET_BY_HPO, *decided}))
            raise SpaceInputError(name, f"model {model!r} takes no keyword {word!r}{hint}")


def _values(domain: Domain) -> Sequence[Value]:
    return domain.values if isinstance(domain, Choices) else (domain.low, domain.high)


def _point(space: SearchSpace, fixed: Mapping[str, Value]) -> Point | None:
    """Return keywords with the values `fixed`, at a point that meets the constraints. None if none is found.

    The other parameters have their first values where those meet the constraints.
    """
    rng = np.random.default_rng(0)
    values: dict[str, Value] = {name: _values(domain)[0] for name, domain in space.domains.items()}
    for _ in range(MAX_TRIED):
        point = space.applicable(_with_parents(space, {**values, **fixed}, fixed))
        if space.is_feasible(point):
            return _keywords(point)
        values = {name: domain.draw(rng) for name, domain in space.domains.items()}
    return None


def _point_without(space: SearchSpace, name: str) -> Point | None:
    """Return keywords at a point where the parameter `name` does not apply. None if none is found."""
    for condition in space.conditions.get(name, ()):
        values = values_of(space.domains[condition.parent])
        others = [value for value in values if not is_among(value, condition.values)]
        for value in others[:MAX_OTHERS]:
            point = _point(space, {condition.parent: value})
            if point is not None and name not in point:
                return point
    return None


def _keywords(point: Mapping[str, Value]) -> Point:
    return {name: value for name, value in point.items() if is_model_parameter(name)}


def _with_parents(space: SearchSpace, values: Mapping[str, Value], fixed: Mapping[str, Value]) -> Point:
    """Return the values, changed where parents would not let the parameters of `fixed` apply."""
    changed, names = dict(values), list(fixed)
    while names:
        for condition in space.conditions.get(names.pop(), ()):
            if not condition.holds(changed):
                domain = space.domains[condition.parent]
                changed[condition.parent] = next(value for value in condition.values if value in domain)
            names.append(condition.parent)
    return changed
