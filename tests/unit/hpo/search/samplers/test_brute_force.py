from hypothesis import given, settings
from support.space_files import file_spaces
from support.spaces import CELLS, SEED, SMALL, WIDE, cells

from hpo.search.samplers.brute_force import BruteForceSampler
from hpo.values.space import Range, SearchSpace
from hpo.values.space_section import parse_space


@settings(max_examples=30)
@given(file_spaces(most=3, finite=True), SEED)
def test_every_point_comes_once(space: SearchSpace, seed: int) -> None:
    assert space.cells is not None
    points = BruteForceSampler().initial(space, min(space.cells, 200) + 5, seed)
    assert len(points) == len(cells(points)) == min(space.cells, 205)
    assert all(point in space for point in points)


def test_order_is_drawn_from_the_seed() -> None:
    orders = [BruteForceSampler().initial(SMALL, 24, seed) for seed in range(50)]
    assert all(cells(points) == CELLS for points in orders)
    assert len({tuple(map(str, points)) for points in orders}) == 50
    assert len({str(points[0]) for points in orders}) > 15
    assert BruteForceSampler().initial(SMALL, 9, 3) == orders[3][:9]


def test_fork_continues() -> None:
    points = BruteForceSampler().initial(SMALL, 24, 3)
    assert BruteForceSampler().initial(SMALL, 99, 3, cells(points[:10])) == points[10:]


def test_space_of_more_points_than_an_integer_of_64_bits_has() -> None:
    space = SearchSpace({str(index): Range(0.0, 0.9, step=1e-6) for index in range(4)})
    points = BruteForceSampler().initial(space, 20, 0)
    assert len(cells(points)) == 20


def test_space_without_a_number_of_points_is_refused() -> None:
    assert BruteForceSampler().mistakes(SMALL) == {}
    assert BruteForceSampler().mistakes(WIDE) == {
        "name": "takes a finite space; give 'lr' and 'momentum' a step or a list of values"
    }
    names = [f"model.{letter}" for letter in "abcdef"]
    text = " + ".join(names) + " < 20"
    space = parse_space({**{name: {"low": 0, "high": 9} for name in names}, "constraints": text})
    assert space.cells is None
    assert "too many combinations" in BruteForceSampler().mistakes(space)["name"]
