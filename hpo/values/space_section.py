"""The section `[space]` of a study file."""

from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches

from hpo.values.parameters import PARAMETERS, Parameter, parse_kind
from hpo.values.space import Choices, Condition, Domain, Number, Range, SearchSpace, Value


class DomainError(ValueError):
    """An invalid domain; the message is the violated rule."""


class SpaceError(ValueError):
    """An invalid search space; `mistakes` maps each faulty parameter to the violated rule."""

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {rule}" for name, rule in mistakes.items()))
        self.mistakes = mistakes


def parse_space(raw: Mapping[str, object]) -> SearchSpace:
    """Parse the `[space]` of a study file: a list of choices, one value, or a range for each parameter.

    A range is a table with `low` and `high`, and optionally `log` or `step`. A parameter that is left out has
    its default. Raises `SpaceError`.
    """
    mistakes = {
        name: f"unknown key{spelling_hint(name, PARAMETERS)}" for name in raw if name not in PARAMETERS
    }
    domains: dict[str, Domain] = {}
    for name, parameter in PARAMETERS.items():
        if name in raw:
            try:
                domains[name] = _domain(parameter, raw[name])
            except DomainError as error:
                mistakes[name] = str(error)
    conditions: dict[str, Condition] = {}
    for name in domains:
        condition = PARAMETERS[name].when
        if condition is None:
            continue
        parent = domains.get(condition.parent, Choices((PARAMETERS[condition.parent].default,)))
        if not any(value in parent for value in condition.values):
            mistakes[name] = f"never applies: it does only where {condition}"
        elif condition.parent in domains:
            conditions[name] = condition
    if mistakes:
        raise SpaceError(mistakes)
    return SearchSpace(domains, conditions)


def space_to_json(space: SearchSpace) -> dict[str, object]:
    """Return the space as plain values that `parse_space` reads back."""
    return {name: _domain_to_json(domain) for name, domain in space.domains.items()}


def spelling_hint(word: str, known: Mapping[str, object]) -> str:
    """Return the end of a message about an unknown key: the closest known key, or all of them."""
    matches = get_close_matches(word, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else f"; known: {', '.join(known)}"


def _domain(parameter: Parameter, raw: object) -> Domain:
    if isinstance(raw, Mapping):
        return _range(parameter, raw)
    values = raw if isinstance(raw, list) else [raw]
    if not values:
        raise DomainError("needs at least one choice")
    choices = tuple(_value(parameter, value) for value in values)
    for value in choices:
        if choices.count(value) > 1:
            raise DomainError(f"names {value} twice")
    return Choices(choices)


def _value(parameter: Parameter, raw: object) -> Value:
    value = parameter.parse(raw)
    if value is None:
        raise DomainError(f"{raw!r} is not {parameter.rule}")
    return value


def _range(parameter: Parameter, raw: Mapping[str, object]) -> Range:
    if parameter.kind not in ("number", "integer"):
        raise DomainError(f"a range is one of numbers; give a list of values, each {parameter.rule}")
    unknown = raw.keys() - {"low", "high", "log", "step"}
    if unknown:
        raise DomainError(f"unknown key {min(unknown)!r}; a range has low, high, log, step")
    if "low" not in raw or "high" not in raw:
        raise DomainError("a range needs low and high")
    low, high = _number(parameter, raw["low"]), _number(parameter, raw["high"])
    log = raw.get("log", False)
    if low >= high:
        raise DomainError(f"low ({low}) must be below high ({high})")
    if not isinstance(log, bool):
        raise DomainError(f"log ({log!r}) must be true or false")
    if log and (low <= 0 or "step" in raw):
        raise DomainError("log needs a low above 0 and no step")
    step = _step(parameter, raw["step"], low, high) if "step" in raw else None
    return Range(low, high, log=log, step=step, integer=parameter.kind == "integer")


def _number(parameter: Parameter, raw: object) -> Number:
    value = _value(parameter, raw)
    assert not isinstance(value, str), "a range is one of numbers"
    return value


def _step(parameter: Parameter, raw: object, low: Number, high: Number) -> Number:
    step = parse_kind(raw, parameter.kind)
    if step is None or isinstance(step, str) or step <= 0:
        raise DomainError(f"step ({raw!r}) must be a number above 0, whole if the parameter is")
    # In decimals, as the file writes them: in floats 0.1 does not divide 0.3 - 0.1.
    if (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)):
        raise DomainError(f"step ({step}) must lead from low ({low}) to high ({high}) exactly")
    return step


def _domain_to_json(domain: Domain) -> object:
    if isinstance(domain, Choices):
        return list(domain.values)
    fields = {"low": domain.low, "high": domain.high, "log": domain.log, "step": domain.step}
    return {key: value for key, value in fields.items() if value is not None and value is not False}
