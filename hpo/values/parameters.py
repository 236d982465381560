"""The registry of hyperparameters: what each means, and what training does with it."""

import keyword
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from hpo.values.space import Choices, Condition, Domain, Point, SearchSpace, Value, applicable

Kind = Literal["number", "integer", "text", "boolean"]

OPTIMIZERS = ("sgd", "adam", "adamw")
"""The optimizers that a study may choose, the first by default."""

SCHEDULES = ("constant", "step", "cosine", "one-cycle")
"""The learning-rate schedules that a study may choose, the first by default."""

CLASS_WEIGHTS = ("none", "balanced")
"""The weights of classes that a study may choose, the first by default."""


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
    DROPOUT = "dropout"
    """A rate of the dropout layers, with a value for each member of a pack."""
    MODEL = "model"
    """A keyword of the constructor of the network."""


COLUMN_ROLES = frozenset(Role) - {Role.PACK, Role.MODEL}
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

PARAMETERS: Mapping[str, Parameter] = {
    "lr": Parameter(
        kind="number",
        role=Role.OPTIMIZER,
        default=0.01,
        rule="a number above 0",
        allows=lambda value: value > 0,
        meaning="Learning rate of the optimizer.",
    ),
    "batch_size": Parameter(
        kind="integer",
        role=Role.PACK,
        default=64,
        rule="a whole number of at least 2",
        allows=lambda value: value >= 2,
        meaning="Images per training step.",
    ),
    "momentum": Parameter(
        kind="number",
        role=Role.OPTIMIZER,
        default=0.9,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning="Momentum of SGD.",
        when=Condition("optimizer", ("sgd",)),
    ),
    "weight_decay": Parameter(
        kind="number",
        role=Role.OPTIMIZER,
        default=0.0,
        rule="a number of at least 0",
        allows=lambda value: value >= 0,
        meaning="Weight decay: an L2 penalty with SGD and Adam, decoupled from the gradient with AdamW.",
    ),
    "optimizer": Parameter(
        kind="text",
        role=Role.PACK,
        default=OPTIMIZERS[0],
        rule=f"one of {', '.join(OPTIMIZERS)}",
        allows=lambda value: value in OPTIMIZERS,
        meaning="Optimizer of the search and of the first phase of full training.",
    ),
    "nesterov": Parameter(
        kind="boolean",
        role=Role.OPTIMIZER,
        default=False,
        rule="true or false",
        allows=lambda _: True,
        meaning="Nesterov momentum.",
        when=Condition("optimizer", ("sgd",)),
    ),
    "beta1": Parameter(
        kind="number",
        role=Role.OPTIMIZER,
        default=0.9,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning="Decay of the mean of the gradients.",
        when=Condition("optimizer", ("adam", "adamw")),
    ),
    "beta2": Parameter(
        kind="number",
        role=Role.OPTIMIZER,
        default=0.999,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning="Decay of the mean of the squared gradients.",
        when=Condition("optimizer", ("adam", "adamw")),
    ),
    "schedule": Parameter(
        kind="text",
        role=Role.SCHEDULE,
        default=SCHEDULES[0],
        rule=f"one of {', '.join(SCHEDULES)}",
        allows=lambda value: value in SCHEDULES,
        meaning="Learning rate over the epochs of the search, or of the first phase of full training. "
        "`step`: times 0.1 at a half and at three quarters of the steps. `cosine`: falls to 0. "
        "`one-cycle`: rises from lr/25 to lr over 30% of the steps, then falls to lr/250000.",
    ),
    "warmup": Parameter(
        kind="number",
        role=Role.SCHEDULE,
        default=0.0,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning="Share of the steps in which the learning rate rises linearly from 0, as a factor of the "
        "schedule.",
        when=Condition("schedule", ("constant", "step", "cosine")),
    ),
    "label_smoothing": Parameter(
        kind="number",
        role=Role.LOSS,
        default=0.0,
        rule="a number from 0 to 1",
        allows=lambda value: 0 <= value <= 1,
        meaning="Share of each label that is spread evenly over all classes in the training loss.",
    ),
    "class_weights": Parameter(
        kind="text",
        role=Role.LOSS,
        default=CLASS_WEIGHTS[0],
        rule=f"one of {', '.join(CLASS_WEIGHTS)}",
        allows=lambda value: value in CLASS_WEIGHTS,
        meaning="Weights of the classes in the training loss. `balanced`: images / (classes * images of the "
        "class), so that all classes count the same.",
    ),
    "dropout": Parameter(
        kind="number",
        role=Role.DROPOUT,
        default=None,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning="Rate of every dropout layer of the network. Left out: the rates of the network.",
    ),
    "clip": Parameter(
        kind="number",
        role=Role.CLIP,
        default=None,
        rule="a number above 0",
        allows=lambda value: value > 0,
        meaning="Largest gradient norm; longer gradients are clipped. Left out: no clipping in the search, "
        "and `full.clip` in full training.",
    ),
}

CONDITIONS: Mapping[str, Condition] = {
    name: parameter.when for name, parameter in PARAMETERS.items() if parameter.when is not None
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
        f"{name if is_model_parameter(name) else name.replace('_', ' ')} {value}"
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
