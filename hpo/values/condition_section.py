"""The key `when` of a parameter in the section `[space]` of a study file."""

from collections.abc import Mapping

from hpo.values.conditions import Condition, Conditions, applies, parents_first, parents_of
from hpo.values.domains import Choices, Domain, Range, Value, is_among
from hpo.values.grid import Budget, TooManyError, combinations, values_of
from hpo.values.parameters import MODEL_PREFIX, is_model_parameter
from hpo.values.vocabulary import Vocabulary
from hpo.values.wording import listed, spelling_hint

MAX_VALUES = 1000
"""Values of a parameter on which others may depend."""

MAX_TRIED = 10_000
"""Values of parents that are tried at most to find a contradiction."""

MAX_SHOWN = 10
"""Values of a parameter that a message lists."""


class ConditionError(ValueError):
    """An invalid condition; the message is the violated rule."""


def parse_when(name: str, raw: object, domains: Mapping[str, Domain]) -> tuple[Condition, ...]:
    """Parse a table of parents and their values, all of which must hold for the parameter `name` to apply.

    A parent is a parameter of the space. For a keyword of the network, a bare keyword is enough where the
    space has no parameter of that name. The conditions are in the order of the parents' names, their values
    in the order of the parents' domains. Raises `ConditionError`.
    """
    if not isinstance(raw, Mapping):
        raise ConditionError(f"when ({raw!r}) must be a table of parameters and their values")
    if not raw:
        raise ConditionError("when names no parameter")
    conditions: dict[str, Condition] = {}
    for word, values in raw.items():
        parent = _parent(name, word, domains)
        if parent in conditions:
            raise ConditionError(f"when names {parent} twice")
        conditions[parent] = Condition(parent, _values(parent, values, domains[parent]))
    return tuple(conditions[parent] for parent in sorted(conditions))


def known_conditions(
    name: str, domains: Mapping[str, Domain], vocabulary: Vocabulary
) -> tuple[Condition, ...]:
    """Return the conditions that the vocabulary has for a parameter of the space.

    Raises `ConditionError` if it never applies.
    """
    condition = vocabulary.condition_of(name)
    if condition is None:
        return ()
    default = vocabulary.default_of(condition.parent)
    parent = domains.get(condition.parent) or Choices(() if default is None else (default,))
    if not any(value in parent for value in condition.values):
        raise ConditionError(f"never applies: it does only where {condition}")
    return (condition,) if condition.parent in domains else ()


def is_implied(condition: Condition, others: tuple[Condition, ...], domain: Domain) -> bool:
    """Return whether one of the other conditions leaves only values of the parent that this one has, too."""
    values = values_of(domain)
    return any(
        other.parent == condition.parent
        and all(is_among(value, condition.values) for value in values if is_among(value, other.values))
        for other in others
    )


def circle(conditions: Conditions) -> list[str] | None:
    """Return parameters each of which depends on the next, the last on the first. None without a circle."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return None
        for parent in sorted(parents_of([name], conditions)):
            if (found := follow(parent, [*path, name])) is not None:
                return found
        done.add(name)
        return None

    return next((found for name in conditions if (found := follow(name, [])) is not None), None)


def contradiction(name: str, domains: Mapping[str, Domain], conditions: Conditions) -> str | None:
    """Return why a parameter never applies, None if it does for some values of its parents.

    There is no circle. Where there are too many combinations of values to try, the answer is None.
    """
    ancestors, waiting = set[str](), [name]
    while waiting:
        new = parents_of([waiting.pop()], conditions) - ancestors
        ancestors |= new
        waiting += new
    names = parents_first([other for other in domains if other in ancestors], conditions)
    points = combinations(names, domains, conditions, budget=Budget(MAX_TRIED))
    try:
        if any(applies(name, conditions, point) for point in points):
            return None
    except TooManyError:
        return None
    return f"never applies: it does only where {listed(map(str, conditions[name]), 'and')}"


def _parent(name: str, word: str, domains: Mapping[str, Domain]) -> str:
    """Return the full name of a parent of `name`."""
    full = MODEL_PREFIX + word
    parent = full if word not in domains and is_model_parameter(name) and full in domains else word
    if parent == name:
        raise ConditionError(f"when: {name} depends on itself")
    if parent not in domains:
        others = [other for other in domains if other != name]
        known = [other.removeprefix(MODEL_PREFIX) for other in others] if is_model_parameter(name) else others
        raise ConditionError(f"when: the space has no parameter {word!r}{spelling_hint(word, known)}")
    size = domains[parent].size
    if size is None:
        raise ConditionError(f"when: {parent} is a continuous range; give it a list of values or a step")
    if size > MAX_VALUES:
        raise ConditionError(f"when: {parent} has {size} values; a condition needs at most {MAX_VALUES}")
    return parent


def _values(parent: str, raw: object, domain: Domain) -> tuple[Value, ...]:
    """Return the values of a parent in the order of its domain."""
    entries = raw if isinstance(raw, list) else [raw]
    if not entries:
        raise ConditionError(f"when gives {parent} no value")
    chosen: list[Value] = []
    for entry in entries:
        if not isinstance(entry, int | float | str | bool) or entry not in domain:
            raise ConditionError(f"when: {parent} is never {entry!r}{_known(entry, domain)}")
        if isinstance(domain, Range) and not isinstance(entry, str):
            entry = domain.nearest(entry)
        chosen.append(entry)
    return tuple(value for value in values_of(domain) if is_among(value, chosen))


def _known(entry: object, domain: Domain) -> str:
    """Return the end of a message about a value that is not in the domain."""
    values = [f"{value}".lower() if isinstance(value, bool) else f"{value}" for value in values_of(domain)]
    if isinstance(entry, str) and isinstance(domain, Choices) and isinstance(domain.values[0], str):
        return spelling_hint(entry, values)
    return f"; known: {', '.join(values[:MAX_SHOWN])}{', ...' if len(values) > MAX_SHOWN else ''}"
