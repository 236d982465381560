"""The registry of hyperparameters: what each means, and what training does with it."""

import keyword
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hpo.values.built_in import OPTIMIZERS, PARAMETERS, SCHEDULES
from hpo.values.conditions import Conditions
from hpo.values.parameter import COLUMN_ROLES, Kind, Parameter, Role, parse_kind
from hpo.values.space import Choices, Domain, Point, SearchSpace, Value, applicable
from hpo.values.wording import value_text

__all__ = ["OPTIMIZERS", "PARAMETERS", "SCHEDULES", "Kind", "Parameter", "Role", "parse_kind"]

MODEL_PREFIX = "model."
"""Begins the name of a parameter that is a keyword of the network's constructor, as in "model.width"."""

SET_BY_HPO = ("classes", "in_channels")
"""The keywords that every network gets from the data."""

MAX_KEYWORD = 64
MAX_INTEGER = 2**53
"""Optuna stores numbers as floats, which hold all integers up to this one."""

_KEYWORD_RULES: Mapping[Kind, tuple[str, Callable[[Any], bool]]] = {
    "number": ("a number", lambda _: True),
    "integer": ("a whole number of at most 2^53 in size", lambda value: abs(value) <= MAX_INTEGER),
    "text": ("text of printable characters", lambda value: bool(value) and value.isprintable()),
    "boolean": ("true or false", lambda _: True),
}

CONDITIONS: Conditions = {
    name: (parameter.when,) for name, parameter in PARAMETERS.items() if parameter.when is not None
}

_PACK_PARAMETERS = {name: entry for name, entry in PARAMETERS.items() if entry.role is Role.PACK}

PackKey = tuple[tuple[str, Any], ...]
"""The values that all members of a pack share, by the name of the parameter."""


def is_model_parameter(name: str) -> bool:
    """Return whether the parameter is a keyword of the network's constructor."""
    return name.startswith(MODEL_PREFIX)


def model_keywords(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of the network's constructor at a point or in a pack key, sorted by name."""
    return {
        name.removeprefix(MODEL_PREFIX): params[name] for name in sorted(params) if is_model_parameter(name)
    }


def keyword_mistake(word: str) -> str | None:
    """Return the rule that a keyword of the network's constructor breaks, None if it breaks none."""
    if word in SET_BY_HPO:
        return "the data decide this keyword of the network"
    if not (word.isascii() and word.isidentifier()) or keyword.iskeyword(word) or len(word) > MAX_KEYWORD:
        return f"a keyword of the network is a name in Python of at most {MAX_KEYWORD} of a-z, A-Z, 0-9, '_'"
    return None


def parameter_of(name: str, kind: Kind = "number") -> Parameter:
    """Return the parameter of that name. `kind`: that of a keyword of the network, whose values decide it.

    Raises `KeyError` if the name is neither in the registry nor that of a keyword.
    """
    if not is_model_parameter(name):
        return PARAMETERS[name]
    rule, allows = _KEYWORD_RULES[kind]
    word = name.removeprefix(MODEL_PREFIX)
    return Parameter(kind, Role.MODEL, None, rule, allows, f"Keyword {word} of the network's constructor.")


def default_of(name: str) -> Value:
    """Return the default of a parameter of the registry that has one. Raises `KeyError` for another name."""
    default = PARAMETERS[name].default
    if default is None:
        raise KeyError(name)
    return default


def with_defaults(point: Mapping[str, Any]) -> Point:
    """Return the point with the defaults of all parameters that apply and that it leaves out.

    What has no default stays out.
    """
    defaults = {
        name: entry.default
        for name, entry in PARAMETERS.items()
        if name not in point and entry.default is not None
    }
    return applicable({**point, **defaults}, CONDITIONS)


def pack_key(point: Mapping[str, Any]) -> PackKey:
    """Return the values that a trial at this point shares with its pack."""
    key: list[tuple[str, Any]] = []
    for name, parameter in _PACK_PARAMETERS.items():
        if name in point:
            key.append((name, point[name]))
        elif parameter.when is None or parameter.when.holds(with_defaults(point)):
            key.append((name, default_of(name)))
    key += ((name, point[name]) for name in sorted(point) if is_model_parameter(name))
    return tuple(key)


def domain_of(space: SearchSpace, name: str) -> Domain:
    """Return the domain of a parameter; its default is the only value if the space leaves it out.

    Raises `KeyError` for a keyword of the network that the space leaves out.
    """
    return space.domains[name] if name in space.domains else Choices((default_of(name),))


def pack_keys(space: SearchSpace) -> int:
    """Return the number of values that pack keys have in the space; a continuous parameter counts as one."""
    names = [*_PACK_PARAMETERS, *filter(is_model_parameter, space.domains)]
    return math.prod(domain_of(space, name).size or 1 for name in names)


def describe(key: PackKey) -> str:
    """Return the key in words, as in "batch size 64". Other values are left out where they are defaults."""
    return ", ".join(
        f"{name if is_model_parameter(name) else name.replace('_', ' ')} {value_text(value)}"
        for name, value in key
        if name == "batch_size" or name not in PARAMETERS or value != default_of(name)
    )


def columns_in_use(names: Iterable[str]) -> list[str]:
    """Return the `names` of parameters that have a column."""
    return [name for name in names if name in PARAMETERS and PARAMETERS[name].role in COLUMN_ROLES]


def of_role(names: Iterable[str], role: Role) -> list[str]:
    """Return the `names` whose parameter has this role."""
    known = (name for name in names if is_model_parameter(name) or name in PARAMETERS)
    return [name for name in known if parameter_of(name).role is role]
