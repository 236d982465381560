"""The section `[baseline]`: a point of the space, with one line for each mistake."""

from collections.abc import Mapping

import pytest

from hpo.values.baseline import parse_baseline
from hpo.values.space import cell
from hpo.values.space_section import SpaceError, parse_space

SPACE = parse_space(
    {
        "lr": {"low": 1e-3, "high": 1.0, "log": True},
        "batch_size": [16, 32],
        "optimizer": ["sgd", "adamw"],
        "momentum": [0, 0.9],
        "model": {"width": [8, 16]},
    }
)
GIVEN: Mapping[str, object] = {"lr": 0.1, "batch_size": 16, "momentum": 0, "model": {"width": 8}}


def test_values_are_those_of_the_space_and_defaults_fill_the_rest() -> None:
    point = parse_baseline(GIVEN, SPACE)
    assert point == {"lr": 0.1, "batch_size": 16, "momentum": 0.0, "optimizer": "sgd", "model.width": 8}
    assert point in SPACE
    assert type(point["batch_size"]) is int
    assert parse_baseline(point, SPACE) == point  # as a stored spec has it


def test_default_may_stand_for_every_parameter_that_has_one() -> None:
    small = parse_space({"lr": [0.01, 0.1], "momentum": [0.0, 0.9], "batch_size": [64]})
    assert parse_baseline({}, small) == {"lr": 0.01, "momentum": 0.9, "batch_size": 64}


def test_parameter_that_does_not_apply_is_left_out() -> None:
    raw = {key: value for key, value in GIVEN.items() if key != "momentum"}
    assert "momentum" not in parse_baseline({**raw, "optimizer": "adamw"}, SPACE)


def test_baseline_meets_the_constraints_of_the_space() -> None:
    space = parse_space({"lr": [0.01, 1.0], "batch_size": [16, 64], "constraints": ["lr * batch_size < 10"]})
    assert parse_baseline({"lr": 0.01, "batch_size": 64}, space) == {"lr": 0.01, "batch_size": 64}
    with pytest.raises(SpaceError) as caught:
        parse_baseline({"lr": 1.0, "batch_size": 64}, space)
    assert caught.value.mistakes == {"lr": "breaks the constraint 'lr * batch_size < 10'"}


def test_broken_constraint_is_a_mistake_of_a_parameter_in_it() -> None:
    space = parse_space({"lr": [0.01, 1.0], "model.lr": [1, 2], "constraints": ["model.lr < 2"]})
    with pytest.raises(SpaceError) as caught:
        parse_baseline({"lr": 0.01, "model.lr": 2}, space)
    assert caught.value.mistakes == {"model.lr": "breaks the constraint 'model.lr < 2'"}


def test_parameter_outside_of_the_space_may_have_its_default() -> None:
    assert parse_baseline({**GIVEN, "weight_decay": 0}, SPACE) == parse_baseline(GIVEN, SPACE)


@pytest.mark.parametrize(
    ("changes", "name", "rule"),
    [
        ({"lr": 2}, "lr", "2 is not in space.lr; add it there, or give a value of the space"),
        ({"lr": -1}, "lr", "-1 is not a number above 0"),
        ({"lr": [0.1]}, "lr", "must be one value"),
        (
            {"batch_size": 64},
            "batch_size",
            "64 is not in space.batch_size; add it there, or give a value of ",
        ),
        ({"batch_size": 16.5}, "batch_size", "16.5 is not a whole number of at least 2"),
        ({"rate": 1}, "rate", "unknown key; known: lr, "),
        ({"optimizer": "adamw"}, "momentum", "does not apply here: it does only where optimizer is sgd"),
        (
            {"weight_decay": 0.1},
            "weight_decay",
            "0.1 is outside of the space, which leaves this parameter out",
        ),
        ({"model": {"width": 9}}, "model.width", "9 is not in space.model.width; "),
        (
            {"model": {"depth": 2}},
            "model.depth",
            "2 is outside of the space, which leaves this parameter out",
        ),
    ],
)
def test_mistake_names_its_parameter(changes: Mapping[str, object], name: str, rule: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_baseline({**GIVEN, **changes}, SPACE)
    assert caught.value.mistakes[name].startswith(rule)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("batch_size", "is missing: its default 64 is not in the space"),
        ("model", "is missing"),
    ],
)
def test_parameter_without_a_default_in_the_space_is_demanded(name: str, rule: str) -> None:
    raw = {key: value for key, value in GIVEN.items() if key != name}
    with pytest.raises(SpaceError) as caught:
        parse_baseline(raw, SPACE)
    assert caught.value.mistakes == {"model.width" if name == "model" else name: rule}


def test_value_of_a_stepped_range_is_the_float_of_the_range() -> None:
    space = parse_space({"momentum": {"low": 0.1, "high": 0.9, "step": 0.1}, "lr": [0.1]})
    point = parse_baseline({"momentum": 0.3, "lr": 0.1}, space)
    assert point["momentum"] == 0.1 + 2 * 0.1 != 0.3
    cells = space.cells or 0
    assert cell(point) in {cell(space.point_at(index)) for index in range(cells)}
