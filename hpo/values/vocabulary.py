"""The vocabulary of a search space: which names its parameters may have, and what is known of them."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from hpo.values.conditions import Condition, Conditions, applicable
from hpo.values.domains import Point, Value
from hpo.values.parameter import Kind, Parameter, Role

PackKey = tuple[tuple[str, Any], ...]
"""The values that all members of a pack share, by the name of the parameter."""

MAX_INTEGER = 2**53
"""Optuna stores numbers as floats, which hold all integers up to this one."""


class Vocabulary(ABC):
    """The names that the parameters of a space may have.

    `parameters` are known by name, in order: each has a kind, a rule and a role, and perhaps a default and a
    condition. Every other name is open: the values of the parameter decide its kind, and there is no default.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        """Create a vocabulary with these known parameters."""
        self.parameters = parameters
        self._conditions: Conditions = {
            name: (entry.when,) for name, entry in parameters.items() if entry.when is not None
        }
        self._packed = {name: entry for name, entry in parameters.items() if entry.role is Role.PACK}

    @abstractmethod
    def __reduce__(self) -> str:
        """Return the name of the constant that the vocabulary is, for processes that get a space."""

    @abstractmethod
    def flat(self, raw: Mapping[str, object], mistakes: dict[str, str]) -> Iterator[tuple[str, object]]:
        """Yield the parameters of a table by their full names; add names that break a rule to `mistakes`."""

    @abstractmethod
    def open_parameter(self, name: str, kind: Kind) -> Parameter:
        """Return the parameter of an open name. Raises `KeyError` for a name that the vocabulary lacks."""

    def is_open(self, name: str) -> bool:
        """Return whether the values of the parameter decide its kind."""
        return name not in self.parameters

    def parameter_of(self, name: str, kind: Kind = "number") -> Parameter:
        """Return the parameter of that name. `kind`: that of an open name, whose values decide it.

        Raises `KeyError` for a name that the vocabulary lacks.
        """
        return self.open_parameter(name, kind) if self.is_open(name) else self.parameters[name]

    def in_order(self, names: Collection[str]) -> list[str]:
        """Return the names in the order of a space: known names first, then open names as they come."""
        return [*(name for name in self.parameters if name in names), *filter(self.is_open, names)]

    def default_of(self, name: str) -> Value | None:
        """Return the default of a parameter, None if it has none."""
        return self.parameters[name].default if name in self.parameters else None

    def condition_of(self, name: str) -> Condition | None:
        """Return the condition that the vocabulary has for a parameter, None if it always applies."""
        return self.parameters[name].when if name in self.parameters else None

    def with_defaults(self, point: Mapping[str, Any]) -> Point:
        """Return the point with the defaults of all parameters that apply and that it leaves out.

        What has no default stays out.
        """
        defaults = {
            name: entry.default
            for name, entry in self.parameters.items()
            if name not in point and entry.default is not None
        }
        return applicable({**point, **defaults}, self._conditions)

    def pack_key(self, point: Mapping[str, Any]) -> PackKey:
        """Return the values that a trial at this point shares with its pack."""
        key: list[tuple[str, Any]] = []
        for name, parameter in self._packed.items():
            if name in point:
                key.append((name, point[name]))
            elif parameter.when is None or parameter.when.holds(self.with_defaults(point)):
                key.append((name, parameter.default))
        return (*key, *((name, point[name]) for name in sorted(point) if self.is_shared(name)))

    def is_shared(self, _name: str) -> bool:
        """Return whether the members of a pack share the value of an open parameter."""
        return False


OPEN_RULES: Mapping[Kind, str] = {
    "number": "a number",
    "integer": "a whole number of at most 2^53 in size",
    "text": "text of printable characters",
    "boolean": "true or false",
}
"""The rule of an open parameter, by its kind."""


def open_parameter(kind: Kind, role: Role, meaning: str) -> Parameter:
    """Return a parameter without a default whose values decided its kind."""

    def allows(value: Any) -> bool:
        if kind == "integer":
            return bool(abs(value) <= MAX_INTEGER)
        return kind != "text" or (bool(value) and bool(value.isprintable()))

    return Parameter(kind, role, None, OPEN_RULES[kind], allows, meaning)
