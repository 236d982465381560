"""The section `[baseline]` of a study file: the parameters that its user has used so far."""

from collections.abc import Mapping
from typing import Any

from hpo.values.domain_section import DomainError, parse_domain
from hpo.values.domains import Choices, Domain, Point, Value, is_among
from hpo.values.space import SearchSpace
from hpo.values.space_section import SpaceError


def parse_baseline(raw: Mapping[str, object], space: SearchSpace) -> Point:
    """Return the point of the space with these values. A parameter that is left out has its default.

    A parameter that the space leaves out may be given with its default, which all trials have. Raises
    `SpaceError` if the values are no point of the space.
    """
    mistakes: dict[str, str] = {}
    given: dict[str, Value] = {}
    for name, value in list(space.vocabulary.flat(raw, mistakes)):  # whole, because it ends with the mistakes
        if name not in mistakes:
            try:
                given[name] = _value(name, value, space)
            except DomainError as error:
                mistakes[name] = str(error)
    values: dict[str, Any] = {
        name: given[name] if name in given else _default(name, space) for name in space.domains
    }
    point = space.applicable(values)
    for name in space.domains:
        if name in given and name not in point:
            places = " and ".join(map(str, space.conditions[name]))
            mistakes[name] = f"does not apply here: it does only where {places}"
        if name in point and point[name] is None and name not in mistakes:
            mistakes[name] = f"is missing{_why_missing(name, space)}"
    for constraint in () if mistakes else space.constraints:
        if not all(comparison.holds(point) for comparison in constraint.comparisons):
            names = frozenset[str]().union(*(comparison.names for comparison in constraint.comparisons))
            name = next(name for name in point if name in names)
            mistakes[name] = f"breaks the constraint {constraint.text!r}"
    if mistakes:
        raise SpaceError(mistakes)
    return point


def _value(name: str, raw: object, space: SearchSpace) -> Value:
    """Return the value of the space that `raw` stands for. Raises DomainError."""
    if isinstance(raw, list | Mapping):
        raise DomainError("must be one value")
    parsed = parse_domain(name, raw, space.vocabulary)
    assert isinstance(parsed, Choices)
    (value,) = parsed.values
    if name not in space.domains:
        default = space.vocabulary.default_of(name)
        if default is not None and value == default:
            return value
        at = "" if default is None else f" at its default {default}"
        raise DomainError(f"{raw!r} is outside of the space, which leaves this parameter out{at}")
    domain = space.domains[name]
    if value not in domain:
        raise DomainError(f"{raw!r} is not in space.{name}; add it there, or give a value of the space")
    return _of_domain(value, domain)


def _of_domain(value: Value, domain: Domain) -> Value:
    """Return a value in the domain as the space has it.

    16.0 for 16 would make another pack, and 0.3 for 0.1 + 2 * 0.1 another cell.
    """
    if isinstance(domain, Choices):
        return next(choice for choice in domain.values if is_among(value, (choice,)))
    assert isinstance(value, int | float), "a range is one of numbers"
    return value if domain.size is None else domain.nearest(value)


def _default(name: str, space: SearchSpace) -> Value | None:
    """Return the default of a parameter, None if it has none in the space."""
    default = space.vocabulary.default_of(name)
    if default is None or default not in space.domains[name]:
        return None
    return _of_domain(default, space.domains[name])


def _why_missing(name: str, space: SearchSpace) -> str:
    default = space.vocabulary.default_of(name)
    return "" if default is None else f": its default {default} is not in the space"
