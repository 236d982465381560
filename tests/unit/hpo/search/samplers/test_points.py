from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.spaces import CELLS, PAPER, SEED, SMALL, SPACES, cells

from hpo.search.samplers.points import plan
from hpo.values.space import Choices, Range, SearchSpace, cell


@settings(max_examples=30)
@given(st.sampled_from(SPACES), SEED, st.integers(0, 60), st.integers(0, 60))
def test_longer_plan_begins_with_the_shorter(
    space: SearchSpace, seed: int, count: int, other_count: int
) -> None:
    shorter, longer = sorted((count, other_count))
    assert plan(space, longer, seed)[:shorter] == plan(space, shorter, seed)


@settings(max_examples=30)
@given(st.sampled_from(SPACES), SEED, st.integers(0, 30))
def test_plan_has_points_of_the_space_without_repeats(space: SearchSpace, seed: int, count: int) -> None:
    points = plan(space, count, seed)
    assert len(points) == len(cells(points)) == min(count, space.cells or count)
    assert all(point in space for point in points)


@pytest.mark.parametrize("space", [PAPER, SMALL])
def test_plan_ends_when_no_cell_is_left(space: SearchSpace) -> None:
    assert space.cells is not None
    points = plan(space, space.cells + 100, 0)
    assert cells(points) == {cell(space.point_at(index)) for index in range(space.cells)}


@pytest.mark.parametrize("space", SPACES)
def test_plan_depends_on_the_seed(space: SearchSpace) -> None:
    plans = [plan(space, 12, seed) for seed in range(20)]
    assert len({tuple(map(cell, points)) for points in plans}) == 20
    assert plan(space, 12, 7) == plans[7]


def test_plan_is_uniform_over_cells() -> None:
    firsts = [cell(plan(SMALL, 1, seed)[0]) for seed in range(2400)]
    assert set(firsts) == CELLS
    assert all(60 < firsts.count(cell) < 145 for cell in CELLS)


def test_plan_draws_log_ranges_of_a_finite_space_by_the_logarithm() -> None:
    constants = {name: Choices((0.5,)) for name in ("lr", "momentum", "weight_decay")}
    space = SearchSpace({**constants, "batch_size": Range(4, 4096, log=True, integer=True)})
    assert space.cells == 4093
    sizes = [plan(space, 1, seed)[0]["batch_size"] for seed in range(200)]
    assert 64 < median(sizes) < 256  # 128 is the middle of the logarithms, 2050 that of the numbers


def test_plan_in_a_space_of_more_than_2_to_the_64_cells() -> None:
    fine = Range(0.0, 0.9, step=1e-6)
    space = SearchSpace(dict.fromkeys(PAPER.domains, fine))
    assert space.cells is not None
    assert space.cells > 2**64
    assert len(cells(plan(space, 10, 0))) == 10
