"""Search spaces for tests of samplers."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from hpo.values.space import Cell, Choices, Condition, Domain, Point, Range, SearchSpace, cell

PAPER = SearchSpace(
    {
        "lr": Choices((1e-3, 1e-2, 1e-1)),
        "batch_size": Choices((16, 32, 64)),
        "momentum": Choices((0.0, 0.85, 0.9, 0.95)),
        "weight_decay": Choices((0.0, 1e-2, 1e-3, 1e-4)),
    }
)
SMALL = SearchSpace(
    {
        "lr": Choices((0.01, 0.1)),
        "batch_size": Range(16, 64, step=16, integer=True),
        "momentum": Range(0.1, 0.3, step=0.1),
        "weight_decay": Choices((0.0,)),
    }
)
"""A finite space of 24 cells."""

WIDE = SearchSpace(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "batch_size": Choices((16, 32)),
        "momentum": Range(0.0, 0.95),
        "weight_decay": Choices((0.0, 1e-4)),
    }
)
SPACES = [PAPER, SMALL, WIDE]
CELLS = {cell(SMALL.point_at(index)) for index in range(24)}
SEED = st.integers(0, 2**32 - 1)

BOOLEANS: st.SearchStrategy[Any] = st.booleans()

DOMAINS: st.SearchStrategy[Domain] = st.one_of(
    st.lists(st.sampled_from(["sgd", "adam", "adamw", "lion"]), min_size=1, max_size=4, unique=True),
    st.lists(BOOLEANS, min_size=1, max_size=2, unique=True),
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3, unique=True),
).map(lambda values: Choices(tuple(values))) | st.sampled_from(
    [Range(0.1, 0.5, step=0.1), Range(2, 5, integer=True), Range(1e-3, 0.5, log=True), Range(0.0, 0.9)]
)


@st.composite
def conditional_spaces(draw: st.DrawFn) -> SearchSpace:
    """Draw a space of up to five parameters of any kind, some with a condition on one that precedes it.

    Some parameters of the registry are among them, with coordinates of their own and values of one kind.
    """
    names = draw(st.permutations(["lr", "momentum", "optimizer", "nesterov", "width"]))
    domains: dict[str, Domain] = {}
    conditions: dict[str, Condition] = {}
    for name in names[: draw(st.integers(1, 5))]:
        parents = [parent for parent, domain in domains.items() if domain.size is not None]
        if parents and draw(BOOLEANS):
            parent = draw(st.sampled_from(parents))
            values = [domains[parent].at(index) for index in range(domains[parent].size or 0)]
            holding = draw(st.lists(st.sampled_from(values), min_size=1, max_size=len(values)))
            conditions[name] = Condition(parent, tuple(holding))
        domains[name] = draw(DOMAINS.filter(KNOWN[name]) if name in KNOWN else DOMAINS)
    return SearchSpace(domains, conditions)


def _is_rate(domain: Domain) -> bool:
    values = domain.values if isinstance(domain, Choices) else (domain.low, domain.high)
    return all(isinstance(value, float) and 0 < value < 1 for value in values)


def _is_text(domain: Domain) -> bool:
    return isinstance(domain, Choices) and all(isinstance(value, str) for value in domain.values)


KNOWN = {"lr": _is_rate, "momentum": _is_rate, "optimizer": _is_text}
"""What a domain of a parameter of the registry must be."""


def cells(points: Sequence[Point]) -> set[Cell]:
    return {cell(point) for point in points}
