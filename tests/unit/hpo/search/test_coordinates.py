import numpy as np
from hypothesis import HealthCheck, given, settings
from support.space_files import file_spaces
from support.spaces import SEED, WIDE

from hpo.search.coordinates import MIDDLE, unit_coordinates
from hpo.values.space import Choices, Range, SearchSpace
from hpo.values.space_section import parse_space

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


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(file_spaces(), SEED)
def test_coordinates_of_any_space_are_in_the_unit_cube(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    coordinates = unit_coordinates(space)
    for _ in range(5):
        values = coordinates(space.draw(rng))
        assert ((values >= -1e-12) & (values <= 1 + 1e-12)).all()


def test_rate_has_the_defaults_of_parameters_that_do_not_apply() -> None:
    raw = {"lr": [0.01, 0.1], "momentum": {"low": 0.0, "high": 0.8, "when": {"model.deep": True}}}
    coordinates = unit_coordinates(parse_space({**raw, "model.deep": [True, False]}))
    rate, momentum, _ = coordinates({"lr": 0.1, "model.deep": False})
    same, _, _ = coordinates({"lr": 0.1, "model.deep": True, "momentum": 0.8})
    assert (rate, momentum) == (1.0, MIDDLE)  # the default momentum of 0.9 is above the range
    assert same < rate
