"""The parameters a search may vary, and how a study file writes their domains."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from hpo.space import Choices, Domain, Range, SearchSpace, Value


@dataclass(frozen=True, slots=True)
class Parameter:
    """`rule` says in words what `allows` checks."""

    integer: bool
    rule: str
    allows: Callable[[Value], bool]


PARAMETERS: Mapping[str, Parameter] = {
    "lr": Parameter(False, "a number above 0", lambda value: value > 0),
    "batch_size": Parameter(True, "a whole number of at least 2", lambda value: value >= 2),
    "momentum": Parameter(False, "a number from 0 to below 1", lambda value: 0 <= value < 1),
    "weight_decay": Parameter(False, "a number of at least 0", lambda value: value >= 0),
}


class DomainError(ValueError):
    """`key`: the parameter, if the mistake is inside one; the message is the rule."""

    def __init__(self, rule: str, key: str | None = None) -> None:
        super().__init__(rule)
        self.key = key


def parse_space(raw: Mapping[str, object]) -> SearchSpace:
    """The `[space]` of a study file: for each parameter a list of choices, one value, or a range.

    A range is a table with `low` and `high`, and maybe `log` or `step`. Raises `DomainError`.
    """
    for name in raw:
        if name not in PARAMETERS:
            raise DomainError(f"unknown key{nearest(name, PARAMETERS)}", name)
    for name in PARAMETERS:
        if name not in raw:
            raise DomainError("is missing; a parameter that should not vary has one value", name)
    return SearchSpace({name: _domain(name, raw[name]) for name in PARAMETERS})


def to_plain(space: SearchSpace) -> dict[str, object]:
    """What `parse_space` reads back."""
    return {name: _plain(domain) for name, domain in space.domains.items()}


def nearest(word: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _domain(name: str, raw: object) -> Domain:
    if isinstance(raw, Mapping):
        return _range(name, raw)
    values = raw if isinstance(raw, list) else [raw]
    if not values:
        raise DomainError("needs at least one choice", name)
    choices = tuple(_value(name, value) for value in values)
    if len(set(choices)) < len(choices):
        raise DomainError("names a choice twice", name)
    return Choices(choices)


def _value(name: str, raw: object) -> Value:
    parameter = PARAMETERS[name]
    kinds = (int,) if parameter.integer else (int, float)
    if isinstance(raw, bool) or not isinstance(raw, kinds):
        raise DomainError(f"{raw!r} is not {parameter.rule}", name)
    if not math.isfinite(raw) or not parameter.allows(raw):
        raise DomainError(f"{raw!r} is not {parameter.rule}", name)
    return int(raw) if parameter.integer else float(raw)


def _range(name: str, raw: Mapping[str, object]) -> Range:
    unknown = raw.keys() - {"low", "high", "log", "step"}
    if unknown:
        raise DomainError(f"unknown key {min(unknown)!r}; a range has low, high, log, step", name)
    if "low" not in raw or "high" not in raw:
        raise DomainError("a range needs low and high", name)
    low, high = _value(name, raw["low"]), _value(name, raw["high"])
    log, integer = raw.get("log", False), PARAMETERS[name].integer
    if low >= high:
        raise DomainError(f"low ({low}) must be below high ({high})", name)
    if not isinstance(log, bool):
        raise DomainError(f"log ({log!r}) must be true or false", name)
    if log and (low <= 0 or "step" in raw):
        raise DomainError("log needs a low above 0 and no step", name)
    return Range(low, high, log=log, step=_step(name, raw.get("step")), integer=integer)


def _step(name: str, raw: object) -> Value | None:
    if raw is None:
        return None
    kinds = (int,) if PARAMETERS[name].integer else (int, float)
    if isinstance(raw, bool) or not isinstance(raw, kinds) or not raw > 0:
        raise DomainError(f"step ({raw!r}) must be a number above 0, whole if the parameter is", name)
    return raw


def _plain(domain: Domain) -> object:
    if isinstance(domain, Choices):
        return list(domain.values)
    plain = {"low": domain.low, "high": domain.high, "log": domain.log, "step": domain.step}
    return {key: value for key, value in plain.items() if value not in (None, False)}
