"""The variants of a network that a space reaches by the keywords of its constructor."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hpo import models
from hpo.errors import InputError
from hpo.spec.mistakes import SpaceInputError
from hpo.values.parameters import MODEL_PREFIX, SET_BY_HPO, is_model_parameter
from hpo.values.space import Choices, Condition, Domain, Point, SearchSpace, Value
from hpo.values.space_section import spelling_hint


@dataclass(frozen=True, slots=True)
class Variant:
    """The keywords `point` of a network. `varied`: the parameter that differs from the first variant."""

    point: Point
    varied: str | None

    @contextmanager
    def mistakes(self) -> Iterator[None]:
        """Name the varied parameter and its value in an InputError of the block."""
        try:
            yield
        except InputError as error:
            if self.varied not in self.point:
                raise
            key = f"{self.varied} = {json.dumps(self.point[self.varied])}"
            raise SpaceInputError(key, str(error)) from error


def variants(space: SearchSpace) -> list[Variant]:
    """Return the network at the first value of each keyword, and at each other value of one keyword.

    A range has both of its ends as values. A network without keywords in the space has one variant. A first
    value that is the only keyword counts as varied.
    """
    names = [name for name in space.domains if is_model_parameter(name)]
    found = [Variant(_point(space, {}), names[0] if len(names) == 1 else None)]
    for name in names:
        for value in _values(space.domains[name]):
            point = _point(space, {name: value})
            if all(variant.point != point for variant in found):
                found.append(Variant(point, name))
    return found


def check_keywords(model: str, space: SearchSpace) -> None:
    """Raise SpaceInputError for a parameter that is no keyword of the network."""
    words = {name: name.removeprefix(MODEL_PREFIX) for name in space.domains if is_model_parameter(name)}
    known = models.keywords_of(model) if words else None
    if known is None:
        return
    for name, word in words.items():
        if word not in known:
            hint = spelling_hint(word, sorted(known - set(SET_BY_HPO)))
            raise SpaceInputError(name, f"model {model!r} takes no keyword {word!r}{hint}")


def _values(domain: Domain) -> Sequence[Value]:
    return domain.values if isinstance(domain, Choices) else (domain.low, domain.high)


def _point(space: SearchSpace, fixed: Mapping[str, Value]) -> Point:
    """Return the keywords at the first values of the space, but for `fixed`, whose parents let it apply."""
    values = {name: _values(domain)[0] for name, domain in space.domains.items()} | dict(fixed)
    names = list(fixed)
    while names:
        for condition in _conditions_of(space, names.pop()):
            if not condition.holds(values):
                domain = space.domains[condition.parent]
                values[condition.parent] = next(value for value in condition.values if value in domain)
            names.append(condition.parent)
    return {name: value for name, value in space.applicable(values).items() if is_model_parameter(name)}


def _conditions_of(space: SearchSpace, name: str) -> Sequence[Condition]:
    return [space.conditions[name]] if name in space.conditions else []
