"""The hyperparameters of the built-in training: what each means, and what training does with it."""

import keyword
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hpo.values.built_in import OPTIMIZERS, PARAMETERS, SCHEDULES
from hpo.values.domains import Choices, Domain, Point, Value
from hpo.values.parameter import COLUMN_ROLES, Kind, Parameter, Role, parse_kind
from hpo.values.vocabulary import PackKey, Vocabulary, open_parameter
from hpo.values.wording import spelling_hint, value_text

if TYPE_CHECKING:
    from hpo.values.space import SearchSpace

__all__ = ["OPTIMIZERS", "PARAMETERS", "SCHEDULES", "Kind", "PackKey", "Parameter", "Role", "parse_kind"]

MODEL_PREFIX = "model."
"""Begins the name of a parameter that is a keyword of the network's constructor, as in "model.width"."""

MODEL = MODEL_PREFIX.rstrip(".")

SET_BY_HPO = ("classes", "in_channels")
"""The keywords that every network gets from the data."""

MAX_NAME = 64
MAX_KEYWORDS = 100
"""Keywords of a network in a space."""


class BuiltInVocabulary(Vocabulary):
    """The parameters of the built-in training, and the keywords of the network as open names.

    The keywords are in the table `model`, or have their full names, as in "model.width".
    """

    def __reduce__(self) -> str:
        return "BUILT_IN"

    def flat(self, raw: Mapping[str, object], mistakes: dict[str, str]) -> Iterator[tuple[str, object]]:
        keywords = {}
        for name, value in raw.items():
            if name != MODEL:
                yield name, value
                if is_model_parameter(name):
                    keywords[name] = name.removeprefix(MODEL_PREFIX)
                elif name not in self.parameters:
                    known = [*self.parameters, f"{MODEL}.KEYWORD"]
                    mistakes[name] = f"unknown key{spelling_hint(name, known)}"
            elif not isinstance(value, Mapping) or not value:
                mistakes[name] = "must be a table of keywords of the network"
            else:
                keywords |= {MODEL_PREFIX + word: word for word in value}
                yield from ((MODEL_PREFIX + word, domain) for word, domain in value.items())
        if len(keywords) > MAX_KEYWORDS:
            mistakes[MODEL] = f"has {len(keywords)} keywords; at most {MAX_KEYWORDS} are searched"
        spellings: dict[str, str] = {}
        for name, word in keywords.items():
            if rule := keyword_mistake(word):
                mistakes[name] = rule
            elif (other := spellings.setdefault(word.lower(), word)) != word:
                # The names of environment variables (`hpo export --format env`) have capitals only.
                mistakes[name] = f"differs from {MODEL_PREFIX}{other} in capitals only"

    def open_parameter(self, name: str, kind: Kind) -> Parameter:
        if not is_model_parameter(name):
            raise KeyError(name)
        word = name.removeprefix(MODEL_PREFIX)
        return open_parameter(kind, Role.MODEL, f"Keyword {word} of the network's constructor.")

    def is_shared(self, name: str) -> bool:
        return is_model_parameter(name)


BUILT_IN = BuiltInVocabulary(PARAMETERS)


def is_model_parameter(name: str) -> bool:
    """Return whether the parameter is a keyword of the network's constructor."""
    return name.startswith(MODEL_PREFIX)


def model_keywords(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of the network's constructor at a point or in a pack key, sorted by name."""
    return {
        name.removeprefix(MODEL_PREFIX): params[name] for name in sorted(params) if is_model_parameter(name)
    }


def is_name(word: str) -> bool:
    """Return whether a word is a name in Python of at most `MAX_NAME` ASCII characters."""
    is_identifier = word.isascii() and word.isidentifier() and not keyword.iskeyword(word)
    return is_identifier and len(word) <= MAX_NAME


def keyword_mistake(word: str) -> str | None:
    """Return the rule that a keyword of the network's constructor breaks, None if it breaks none."""
    if word in SET_BY_HPO:
        return "the data decide this keyword of the network"
    if not is_name(word):
        return f"a keyword of the network is a name in Python of at most {MAX_NAME} of a-z, A-Z, 0-9, '_'"
    return None


def parameter_of(name: str, kind: Kind = "number") -> Parameter:
    """Return the parameter of that name. `kind`: that of a keyword of the network, whose values decide it.

    Raises `KeyError` if the name is neither in the registry nor that of a keyword.
    """
    return BUILT_IN.parameter_of(name, kind)


def default_of(name: str) -> Value:
    """Return the default of a parameter of the registry that has one. Raises `KeyError` for another name."""
    default = BUILT_IN.default_of(name)
    if default is None:
        raise KeyError(name)
    return default


def with_defaults(point: Mapping[str, Any]) -> Point:
    """Return a point of the built-in training with the defaults of what applies and is left out.

    What has no default stays out. For a point of any study, see `SearchSpace.with_defaults`.
    """
    return BUILT_IN.with_defaults(point)


def pack_key(point: Mapping[str, Any]) -> PackKey:
    """Return the values that a trial of the built-in training shares with its pack.

    For a point of any study, see `SearchSpace.pack_key`.
    """
    return BUILT_IN.pack_key(point)


def domain_of(space: "SearchSpace", name: str) -> Domain:
    """Return the domain of a parameter; its default is the only value if the space leaves it out.

    Raises `KeyError` for a keyword of the network that the space leaves out.
    """
    return space.domains[name] if name in space.domains else Choices((default_of(name),))


def pack_keys(space: "SearchSpace") -> int:
    """Return the number of values that pack keys have in the space; a continuous parameter counts as one."""
    names = [*of_role(PARAMETERS, Role.PACK), *filter(is_model_parameter, space.domains)]
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
