"""A hyperparameter: its kind, its rule, its default, and what training does with it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from hpo.values.conditions import Condition
from hpo.values.domains import Value

Kind = Literal["number", "integer", "text", "boolean"]


class Role(Enum):
    """What training does with a parameter."""

    PACK = "pack"
    """Changes what a pack computes, so all members of a pack have the same value."""
    OPTIMIZER = "optimizer"
    """A setting of the optimizer, with a value for each member of a pack."""
    SCHEDULE = "schedule"
    """Sets the learning rate of each step, with a value for each member of a pack."""
    LOSS = "loss"
    """A setting of the training loss, with a value for each member of a pack."""
    CLIP = "clip"
    """Bounds the gradients, with a value for each member of a pack."""
    AUGMENTATION = "augmentation"
    """A strength of the augmentation, with a value for each member of a pack."""
    DROPOUT = "dropout"
    """A rate of the dropout layers, with a value for each member of a pack."""
    MODEL = "model"
    """A keyword of the constructor of the network."""
    FREE = "free"
    """A parameter of a user's training function, whose meaning only the function knows."""


COLUMN_ROLES = frozenset(Role) - {Role.PACK, Role.MODEL, Role.FREE}
"""The roles of parameters that have a value for each member of a pack: a column."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A hyperparameter; `rule` states in words the condition that `allows` checks.

    A parameter that the search space leaves out has the value `default`. It is None where training then takes
    it from elsewhere: from the constructor of the network or another section of the study file. A parameter
    with `when` applies only where the condition holds. Elsewhere it is no part of a trial.
    """

    kind: Kind
    role: Role
    default: Value | None
    rule: str
    allows: Callable[[Any], bool]
    meaning: str
    when: Condition | None = None

    def parse(self, raw: object) -> Value | None:
        """Return `raw` as a value of the parameter, None if it is of another kind or breaks the rule."""
        value = parse_kind(raw, self.kind)
        return value if value is not None and self.allows(value) else None


def parse_kind(raw: object, kind: Kind) -> Value | None:
    """Return `raw` if it is a value of this kind, otherwise None. A number is finite, an integer whole."""
    if kind == "text":
        return raw if isinstance(raw, str) else None
    if kind == "boolean":
        return raw if isinstance(raw, bool) else None
    if isinstance(raw, bool) or not isinstance(raw, int if kind == "integer" else (int, float)):
        return None
    try:
        value = float(raw)
    except OverflowError:  # integers in TOML are unbounded
        return None
    if not math.isfinite(value):
        return None
    return raw if kind == "integer" else value
