"""The section `[space]` of a study file."""

from collections.abc import Mapping

from hpo.values.condition_section import (
    ConditionError,
    circle,
    contradiction,
    is_implied,
    known_conditions,
    parse_when,
)
from hpo.values.constraint_section import ConstraintError, parse_constraints
from hpo.values.domain_section import DomainError, domain_to_json, parse_domain, split_when
from hpo.values.parameters import BUILT_IN
from hpo.values.space import MAX_DRAWS, Condition, Constraint, Domain, SearchSpace
from hpo.values.vocabulary import Vocabulary

CONSTRAINTS = "constraints"


class SpaceError(ValueError):
    """An invalid search space; `mistakes` maps each faulty parameter to the violated rule."""

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {rule}" for name, rule in mistakes.items()))
        self.mistakes = mistakes


def parse_space(raw: Mapping[str, object], vocabulary: Vocabulary = BUILT_IN) -> SearchSpace:
    """Parse the `[space]` of a study file: a list of choices, one value, or a range for each parameter.

    A range is a table with `low` and `high`, and optionally `log` or `step`. A parameter that is left out has
    its default. The `vocabulary` says which names there are, and their order. A table may have the conditions
    `when` the parameter applies (`hpo.values.condition_section`); choices are then in its key `choices`. The
    key `constraints` has comparisons between parameters (`hpo.values.constraint_section`). Raises
    `SpaceError`.
    """
    mistakes: dict[str, str] = {}
    table = {key: raw[key] for key in raw if key != CONSTRAINTS}
    domains, whens = _domains(table, vocabulary, mistakes)
    # The other mistakes might follow from these.
    if mistakes:
        raise SpaceError(mistakes)
    conditions = _conditions(domains, whens, vocabulary, mistakes)
    constraints: tuple[Constraint, ...] = ()
    try:
        constraints = parse_constraints(raw[CONSTRAINTS], domains, vocabulary) if CONSTRAINTS in raw else ()
    except ConstraintError as error:
        mistakes[CONSTRAINTS] = str(error)
    space = SearchSpace(domains, conditions, constraints, vocabulary)
    if not mistakes and constraints and space.example is None:
        mistakes[CONSTRAINTS] = _empty(space)
    if mistakes:
        raise SpaceError(mistakes)
    return space


def _empty(space: SearchSpace) -> str:
    texts = ", ".join(repr(constraint.text) for constraint in space.constraints)
    if space.cells is None:
        return f"none of {MAX_DRAWS} random points meets {texts}"
    return f"no point of the space meets {texts}"


def _domains(
    raw: Mapping[str, object], vocabulary: Vocabulary, mistakes: dict[str, str]
) -> tuple[dict[str, Domain], dict[str, object]]:
    """Return the domains in the order of the parameters, and their keys `when`; add to `mistakes`."""
    written: dict[str, object] = {}
    for name, value in vocabulary.flat(raw, mistakes):
        if name in written:
            mistakes[name] = "is given twice"
        written[name] = value
    domains: dict[str, Domain] = {}
    whens: dict[str, object] = {}
    for name in vocabulary.in_order(sorted(written)):
        if name not in mistakes:
            try:
                domain, when = split_when(written[name])
                domains[name] = parse_domain(name, domain, vocabulary)
            except DomainError as error:
                mistakes[name] = str(error)
            else:
                whens |= {} if when is None else {name: when}
    return domains, whens


def _conditions(
    domains: Mapping[str, Domain],
    whens: Mapping[str, object],
    vocabulary: Vocabulary,
    mistakes: dict[str, str],
) -> dict[str, tuple[Condition, ...]]:
    """Return the conditions of the vocabulary and of the file; add to `mistakes`."""
    conditions: dict[str, tuple[Condition, ...]] = {}
    for name in domains:
        try:
            own = known_conditions(name, domains, vocabulary)
            given = parse_when(name, whens[name], domains) if name in whens else ()
        except ConditionError as error:
            mistakes[name] = str(error)
            continue
        new = tuple(entry for entry in given if not is_implied(entry, own, domains[entry.parent]))
        if own or new:
            conditions[name] = (*own, *new)
    if path := circle(conditions):
        mistakes[path[0]] = f"when: {path[0]} depends on {', which depends on '.join([*path[1:], path[0]])}"
        return conditions
    for name in conditions:
        if name not in mistakes and (rule := contradiction(name, domains, conditions)):
            mistakes[name] = rule
    return conditions


def space_to_json(space: SearchSpace) -> dict[str, object]:
    """Return the space as plain values that `parse_space` reads back."""
    plain: dict[str, object] = {}
    for name, domain in space.domains.items():
        own = known_conditions(name, space.domains, space.vocabulary)
        given = [entry for entry in space.conditions.get(name, ()) if entry not in own]
        plain[name] = domain_to_json(domain, {entry.parent: list(entry.values) for entry in given})
    if space.constraints:
        plain[CONSTRAINTS] = [constraint.text for constraint in space.constraints]
    return plain
