"""The domain of one parameter in the section `[space]` of a study file."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from hpo.values.domains import Choices, Domain, Number, Range, Value
from hpo.values.parameter import Kind, Parameter, parse_kind
from hpo.values.parameters import BUILT_IN
from hpo.values.vocabulary import MAX_INTEGER, Vocabulary
from hpo.values.wording import shortened


class DomainError(ValueError):
    """An invalid domain; the message is the violated rule."""


def parse_domain(name: str, raw: object, vocabulary: Vocabulary = BUILT_IN) -> Domain:
    """Parse a list of choices, one value, or a range, as the study file has it for a parameter.

    An open name, such as a keyword of the network, has the kind of its values. Raises `DomainError`.
    """
    kind = _kind(_values(raw)) if vocabulary.is_open(name) else "number"
    return _domain(vocabulary.parameter_of(name, kind), raw)


def split_when(raw: object) -> tuple[object, object]:
    """Return a domain without its key `when` and with its key `choices` as a plain list, and the key `when`.

    `when` is None if there is none. Raises `DomainError`.
    """
    if not isinstance(raw, Mapping):
        return raw, None
    domain = {key: value for key, value in raw.items() if key != "when"}
    if "choices" not in domain:
        return domain, raw.get("when")
    if unknown := domain.keys() - {"choices"}:
        raise DomainError(f"unknown key {min(unknown)!r}; a table with choices has only when beside them")
    choices = domain["choices"]
    return choices if isinstance(choices, list) else [choices], raw.get("when")


def _values(raw: object) -> Sequence[object]:
    """Return the values that a domain is written with."""
    if isinstance(raw, Mapping):
        return [raw[key] for key in ("low", "high") if key in raw]
    return raw if isinstance(raw, list) else [raw]


def _kind(values: Sequence[object]) -> Kind:
    """Return the kind of all values. Whole numbers are integers only where all numbers are whole."""
    kinds = {type(value): value for value in values}
    for unknown in kinds.keys() - {bool, int, float, str}:
        raise DomainError(f"{kinds[unknown]!r} is neither a number nor text, true or false")
    if kinds.keys() <= {int}:
        return "integer"
    if kinds.keys() <= {int, float}:
        return "number"
    if len(kinds) > 1:
        first, second, *_ = kinds.values()
        raise DomainError(f"{first!r} and {second!r} are of different kinds; all values are of one kind")
    return "text" if str in kinds else "boolean"


def _domain(parameter: Parameter, raw: object) -> Domain:
    if isinstance(raw, Mapping):
        return _range(parameter, raw)
    values = raw if isinstance(raw, list) else [raw]
    if not values:
        raise DomainError("needs at least one choice")
    choices: dict[Value, None] = {}
    for value in (_value(parameter, value) for value in values):
        if value in choices:
            raise DomainError(f"names {value} twice")
        choices[value] = None
    return Choices(tuple(choices))


def _value(parameter: Parameter, raw: object) -> Value:
    value = parameter.parse(raw)
    if value is None:
        raise DomainError(f"{shortened(repr(raw))} is not {parameter.rule}")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise DomainError(f"{shortened(repr(raw))} is more than 2^53")
    return value


def _range(parameter: Parameter, raw: Mapping[str, object]) -> Range:
    if parameter.kind not in ("number", "integer"):
        raise DomainError(f"a range is one of numbers; give a list of values, each {parameter.rule}")
    unknown = raw.keys() - {"low", "high", "log", "step"}
    if unknown:
        raise DomainError(f"unknown key {min(unknown)!r}; a range has low, high, log, step, when")
    if "low" not in raw or "high" not in raw:
        raise DomainError("a range needs low and high")
    low, high = _number(parameter, raw["low"]), _number(parameter, raw["high"])
    log = raw.get("log", False)
    if low >= high:
        raise DomainError(f"low ({low}) must be below high ({high})")
    if not math.isfinite(high - low):
        raise DomainError(f"high ({high}) - low ({low}) is more than a number can hold")
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
    if (high - low) / step > MAX_INTEGER:
        raise DomainError(f"step ({step}) leads to more than 2^53 values")
    # In decimals, as the file writes them: in floats 0.1 does not divide 0.3 - 0.1.
    if (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)):
        raise DomainError(f"step ({step}) must lead from low ({low}) to high ({high}) exactly")
    return step


def domain_to_json(domain: Domain, when: Mapping[str, object] | None = None) -> object:
    """Return the domain, and when it applies, as a plain value that `parse_domain` and `split_when` read."""
    if isinstance(domain, Choices):
        values = list(domain.values)
        return {"choices": values, "when": when} if when else values
    fields = {"low": domain.low, "high": domain.high, "log": domain.log, "step": domain.step}
    plain: dict[str, object] = {
        key: value for key, value in fields.items() if value is not None and value is not False
    }
    return {**plain, "when": when} if when else plain
