"""Counting and numbering the points of finite spaces, compared with all combinations of all values."""

import pytest
from hypothesis import HealthCheck, assume, given, settings
from support.space_files import brute_force, file_spaces, size

from hpo.values.grid import MAX_NODES
from hpo.values.space import SearchSpace, cell
from hpo.values.space_section import parse_space

HUNDRED = {"low": 0, "high": 99}


@settings(max_examples=30, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(file_spaces(finite=True))
def test_points_are_the_feasible_combinations_of_parameters_that_apply(space: SearchSpace) -> None:
    assume(size(space) <= 300)
    assert space.cells is not None
    points = [space.point_at(index) for index in range(space.cells)]
    cells = [cell(point) for point in points]
    assert len(set(cells)) == len(cells)
    assert set(cells) == brute_force(space)
    assert all(point in space for point in points)
    assert all(list(point) == [name for name in space.domains if name in point] for point in points)


def test_only_parameters_that_depend_on_each_other_are_listed() -> None:
    raw = {f"model.{letter}{index}": HUNDRED for letter in "ab" for index in range(5)}
    space = parse_space({**raw, "constraints": [f"model.a{index} < model.b{index}" for index in range(5)]})
    assert space.cells == 4950**5
    for index in (0, 1, 4950**4, 4950**5 // 3, 4950**5 - 1):
        point = space.point_at(index)
        assert point in space
    assert space.point_at(0) == {f"model.{letter}{index}": "ab".index(letter) for letter, index in _names()}


def _names() -> list[tuple[str, int]]:
    return [(letter, index) for letter in "ab" for index in range(5)]


def test_space_of_a_million_points_with_a_constraint_is_counted() -> None:
    raw = {f"model.{name}": {"low": 0, "high": 9} for name in "abcdef"}
    space = parse_space({**raw, "constraints": ["model.a <= model.b", "model.c + model.d == 9"]})
    assert space.cells == 55 * 10 * 100
    assert list(space.point_at(space.cells - 1).values()) == [9, 9, 9, 0, 9, 9]


def test_space_with_too_many_combinations_is_not_counted() -> None:
    raw = {f"model.{name}": HUNDRED for name in "abc"}
    space = parse_space({**raw, "constraints": ["model.a + model.b + model.c < 250"]})
    assert MAX_NODES < 100**3
    assert space.cells is None
    assert parse_space({"model.a": {"low": 0, "high": 2**52}, "constraints": "model.a > 5"}).cells is None


def test_chain_of_equals_is_counted_without_trying_all_combinations() -> None:
    raw = {f"model.{name}": {"low": 0, "high": 99} for name in "abc"}
    assert parse_space({**raw, "constraints": ["model.a == model.b == model.c"]}).cells == 100


@pytest.mark.parametrize("count", [1, 20])
def test_condition_counts_where_it_holds(count: int) -> None:
    raw: dict[str, object] = {f"model.p{index}": [1, 2] for index in range(count)}
    raw |= {
        f"model.c{index}": {"choices": ["a", "b", "c"], "when": {f"p{index}": 2}} for index in range(count)
    }
    assert parse_space(raw).cells == 4**count
