"""The section `[space]` of a study file."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from hpo.values.domain_section import DomainError, domain_to_json, parse_domain
from hpo.values.parameters import MODEL_PREFIX, PARAMETERS, domain_of, is_model_parameter, keyword_mistake
from hpo.values.space import Condition, Domain, SearchSpace

MODEL = MODEL_PREFIX.rstrip(".")


class SpaceError(ValueError):
    """An invalid search space; `mistakes` maps each faulty parameter to the violated rule."""

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {rule}" for name, rule in mistakes.items()))
        self.mistakes = mistakes


def parse_space(raw: Mapping[str, object]) -> SearchSpace:
    """Parse the `[space]` of a study file: a list of choices, one value, or a range for each parameter.

    A range is a table with `low` and `high`, and optionally `log` or `step`. A parameter that is left out has
    its default. The keywords of the network are in the table `model`, or have their full names, as in
    "model.width". The parameters are those of the registry in its order, then the keywords by name. Raises
    `SpaceError`.
    """
    mistakes: dict[str, str] = {}
    domains = _domains(raw, mistakes)
    conditions = _conditions(domains, mistakes)
    if mistakes:
        raise SpaceError(mistakes)
    return SearchSpace(domains, conditions)


def _domains(raw: Mapping[str, object], mistakes: dict[str, str]) -> dict[str, Domain]:
    """Return the domains in the order of the parameters; add the mistakes in them to `mistakes`."""
    written: dict[str, object] = {}
    for name, value in _flat(raw, mistakes):
        if name in written:
            mistakes[name] = "is given twice"
        written[name] = value
    domains: dict[str, Domain] = {}
    for name in [*PARAMETERS, *sorted(filter(is_model_parameter, written))]:
        if name in written and name not in mistakes:
            try:
                domains[name] = parse_domain(name, written[name])
            except DomainError as error:
                mistakes[name] = str(error)
    return domains


def _conditions(domains: Mapping[str, Domain], mistakes: dict[str, str]) -> dict[str, Condition]:
    """Return the conditions of the registry whose parents are in the space; add mistakes to `mistakes`."""
    conditions: dict[str, Condition] = {}
    for name in domains:
        condition = PARAMETERS[name].when if name in PARAMETERS else None
        if condition is None:
            continue
        parent = domains.get(condition.parent) or domain_of(SearchSpace({}), condition.parent)
        if not any(value in parent for value in condition.values):
            mistakes[name] = f"never applies: it does only where {condition}"
        elif condition.parent in domains:
            conditions[name] = condition
    return conditions


def _flat(raw: Mapping[str, object], mistakes: dict[str, str]) -> Iterator[tuple[str, object]]:
    """Yield the parameters by their full names; add unknown names to `mistakes`."""
    keywords = {}
    for name, value in raw.items():
        if name != MODEL:
            yield name, value
            if is_model_parameter(name):
                keywords[name] = name.removeprefix(MODEL_PREFIX)
            elif name not in PARAMETERS:
                mistakes[name] = f"unknown key{spelling_hint(name, [*PARAMETERS, f'{MODEL}.KEYWORD'])}"
        elif not isinstance(value, Mapping) or not value:
            mistakes[name] = "must be a table of keywords of the network"
        else:
            keywords |= {MODEL_PREFIX + word: word for word in value}
            yield from ((MODEL_PREFIX + word, domain) for word, domain in value.items())
    spellings: dict[str, str] = {}
    for name, word in keywords.items():
        if rule := keyword_mistake(word):
            mistakes[name] = rule
        elif (other := spellings.setdefault(word.lower(), word)) != word:
            # The names of environment variables (`hpo best --format env`) have capitals only.
            mistakes[name] = f"differs from {MODEL_PREFIX}{other} in capitals only"


def space_to_json(space: SearchSpace) -> dict[str, object]:
    """Return the space as plain values that `parse_space` reads back."""
    return {name: domain_to_json(domain) for name, domain in space.domains.items()}


def spelling_hint(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown key: the closest known key, or all of them."""
    known = list(known)
    matches = get_close_matches(word, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else f"; known: {', '.join(known)}"
