import numpy as np
from hypothesis import given
from support.spaces import SEED, WIDE

from hpo.search.coordinates import MIDDLE, unit_coordinates
from hpo.values.space import Choices, Range, SearchSpace

MIXED = SearchSpace(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "act": Choices(("relu", "gelu", "tanh")),
        "norm": Choices((True, False)),
        "depth": Choices((2, 4, 8)),
    }
)


@given(SEED)
def test_coordinates_are_in_the_unit_cube(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for space in (MIXED, WIDE):
        coordinates = unit_coordinates(space)(space.draw(rng))
        assert ((coordinates >= -1e-12) & (coordinates <= 1 + 1e-12)).all()


def test_text_has_one_coordinate_for_each_of_three_choices() -> None:
    coordinates = unit_coordinates(MIXED)
    point = {"lr": 1e-2, "act": "gelu", "norm": True, "depth": 4}
    # lr, three of act, norm, and depth by rank
    assert coordinates(point).tolist() == [0.5, 0.0, 1.0, 0.0, 1.0, 0.5]


def test_parameter_that_does_not_apply_is_in_the_middle() -> None:
    space = SearchSpace({"depth": Choices((1, 2)), "width": Choices((16, 32))})
    assert unit_coordinates(space)({"depth": 2}).tolist() == [1.0, MIDDLE]


def test_parameter_with_one_value_has_no_coordinate() -> None:
    space = SearchSpace({"lr": Choices((0.1,)), "weight_decay": Choices((0.0, 0.1, 1.0))})
    assert unit_coordinates(space)({"lr": 0.1, "weight_decay": 0.1}).tolist() == [0.5]
