"""Search spaces as study files write them, of every kind of parameter, condition and constraint."""

from __future__ import annotations

import math
import re
from itertools import product
from typing import Any

from hypothesis import assume, reject
from hypothesis import strategies as st

from hpo.values.space import Cell, Choices, Point, SearchSpace, Value, cell
from hpo.values.space_section import SpaceError, parse_space

Raw = dict[str, Any]

NUMBERS: Any = st.sampled_from(
    [
        [1, 2, 4],
        [0.5, 2],
        {"choices": [8]},
        {"low": 1, "high": 4},
        {"low": 2, "high": 9, "log": True},
        {"low": 0.25, "high": 1.0, "step": 0.25},
    ]
)
CONTINUOUS: Any = st.sampled_from([{"low": 0.25, "high": 4.0}, {"low": 1e-3, "high": 1, "log": True}])
RATES: Any = st.sampled_from([[0.5, 0.25], 0.5, {"low": 0.125, "high": 0.5, "step": 0.125}])
BOOLEANS: Any = st.booleans()
DOMAINS: dict[str, Any] = {
    "lr": RATES | st.sampled_from([{"low": 1e-3, "high": 1, "log": True}]),
    "batch_size": st.sampled_from([[16, 32], 64, {"low": 16, "high": 64, "step": 16}]),
    "momentum": RATES | st.sampled_from([{"low": 0, "high": 0.75}]),
    "optimizer": st.sampled_from([["sgd", "adamw"], ["adamw", "sgd"], "sgd"]),
    "model.act": st.sampled_from([["relu", "gelu", "tanh"], ["relu", "gelu"], "tanh"]),
    "model.norm": st.sampled_from([[True, False], True]),
    "model.depth": NUMBERS,
    "model.width": NUMBERS | CONTINUOUS,
}
NUMERIC = ("lr", "batch_size", "momentum", "model.depth", "model.width")
SHAPES = (
    "{} <= {}",
    "{} < 2 * {}",
    "{} + 1 > {} / 2",
    "{} != {}",
    "1 / ({} - 2) > -{}",
    "0 < {} <= {} * 4",
    "model.norm == true",
    "model.act != 'gelu'",
    "optimizer == 'sgd'",
)


def written(domain: Any) -> Any:
    """Return a domain as a table, so that a condition fits into it."""
    return dict(domain) if isinstance(domain, dict) else {"choices": domain}


@st.composite
def raw_spaces(draw: st.DrawFn, most: int = 5, *, finite: bool = False) -> Raw:
    """Draw the `[space]` of a study file of up to `most` parameters. It may be invalid."""
    names = draw(st.lists(st.sampled_from(sorted(DOMAINS)), min_size=1, max_size=most, unique=True))
    raw: Raw = {}
    for name in names:
        domain = draw(DOMAINS[name])
        if finite and isinstance(domain, dict) and not {"step", "choices"} & domain.keys():
            assume(type(domain["low"]) is type(domain["high"]) is int and name != "lr" and name != "momentum")
        parents = [other for other in raw if parse_space({other: _plain(raw[other])}).cells is not None]
        if parents and draw(BOOLEANS):
            domain = {**written(domain), "when": {}}
            for parent in draw(st.lists(st.sampled_from(parents), min_size=1, max_size=2, unique=True)):
                values = values_of(parse_space({parent: _plain(raw[parent])}), parent)
                domain["when"][parent] = draw(st.lists(st.sampled_from(values), min_size=1, unique=True))
        raw[name] = domain
    constraints = draw(st.lists(st.sampled_from(SHAPES), max_size=2, unique=True))
    numbers = [name for name in names if name in NUMERIC]
    texts = []
    for shape in constraints:
        if "{}" in shape and numbers:
            count = shape.count("{}")
            texts.append(shape.format(*(draw(st.sampled_from(numbers)) for _ in range(count))))
        elif "{}" not in shape and shape.split()[0] in names:
            texts.append(shape)
    return {**raw, "constraints": texts} if texts else raw


@st.composite
def file_spaces(draw: st.DrawFn, most: int = 5, *, finite: bool = False) -> SearchSpace:
    """Draw a valid space of a study file."""
    try:
        return parse_space(draw(raw_spaces(most, finite=finite)))
    except SpaceError as error:
        mistakes = error.mistakes
    # A condition or constraint may contradict another. Nothing else is wrong with the files.
    assert all(re.search("never|meets|depends", rule) for rule in mistakes.values()), mistakes
    return reject()


def values_of(space: SearchSpace, name: str) -> list[Value]:
    domain = space.domains[name]
    assert domain.size is not None
    return [domain.at(index) for index in range(domain.size)]


def brute_force(space: SearchSpace) -> set[Cell]:
    """Return all cells of a finite space, from all combinations of all values."""
    names = list(space.domains)
    found = set()
    for values in product(*(values_of(space, name) for name in names)):
        point = dict(zip(names, values, strict=True))
        for _ in names:  # what depends on a parameter that does not apply does not apply either
            point = {name: value for name, value in point.items() if _applies(space, name, point)}
        if all(_is_true(constraint.text, space, point) for constraint in space.constraints):
            found.add(cell(point))
    return found


def size(space: SearchSpace) -> int:
    """Return the number of combinations of all values."""
    return math.prod(domain.size or 0 for domain in space.domains.values())


def _applies(space: SearchSpace, name: str, point: Point) -> bool:
    return all(
        condition.parent in point and point[condition.parent] in Choices(condition.values)
        for condition in space.conditions.get(name, ())
    )


def _is_true(text: str, space: SearchSpace, point: Point) -> bool:
    """Return whether Python finds a constraint true; a chain is the conjunction of its comparisons."""
    words = text.split()
    places = [place for place, word in enumerate(words) if word in ("<", "<=", ">", ">=", "==", "!=")]
    starts, ends = [0, *(place + 1 for place in places)], [*places, len(words)]
    sides = [" ".join(words[start:end]) for start, end in zip(starts, ends, strict=True)]
    for left, place, right in zip(sides, places, sides[1:], strict=False):
        expression = f"{left} {words[place]} {right}"
        if any(name in expression and name not in point for name in space.domains):
            continue
        known = {name.replace(".", "_"): value for name, value in point.items()}
        try:
            if not eval(expression.replace("model.", "model_"), {"true": True, "false": False, **known}):  # noqa: S307
                return False
        except ZeroDivisionError:
            return False
    return True


def _plain(raw: Any) -> Any:
    return {key: value for key, value in raw.items() if key != "when"} if isinstance(raw, dict) else raw
