import pytest

from hpo.values.baseline import parse_baseline
from hpo.values.free import FREE, MAX_PARAMETERS
from hpo.values.space import Choices, Condition, Range
from hpo.values.space_section import SpaceError, parse_space, space_to_json

SPACE = {
    "momentum": {"low": 0.5, "high": 2.0, "when": {"optimizer": "lion"}},
    "optimizer": ["lion", "adamw"],
    "batch_size": 1,
    "model": ["small", "large"],
    "depth": {"low": 1, "high": 4},
    "flag": [True, False],
    "constraints": ["depth * batch_size <= 3"],
}


def rule(raw: dict[str, object], name: str) -> str:
    with pytest.raises(SpaceError) as caught:
        parse_space(raw, FREE)
    return caught.value.mistakes[name]


def test_names_of_the_built_in_training_have_no_rule_and_no_condition() -> None:
    space = parse_space(SPACE, FREE)
    assert space.domains == {
        "batch_size": Choices((1,)),
        "depth": Range(1, 4, integer=True),
        "flag": Choices((True, False)),
        "model": Choices(("small", "large")),
        "momentum": Range(0.5, 2.0),
        "optimizer": Choices(("lion", "adamw")),
    }
    assert space.conditions == {"momentum": (Condition("optimizer", ("lion",)),)}
    assert parse_space(space_to_json(space), FREE) == space


def test_points_have_no_defaults_and_no_pack_key() -> None:
    space = parse_space(SPACE, FREE)
    point = {"optimizer": "adamw", "batch_size": 1}
    assert space.with_defaults(point) == point
    assert space.pack_key(point) == ()
    assert not space.knows("optimizer")


def test_order_of_the_file_does_not_change_the_space() -> None:
    shuffled = dict(reversed(SPACE.items()))
    assert list(parse_space(shuffled, FREE).domains) == list(parse_space(SPACE, FREE).domains)


@pytest.mark.parametrize("name", ["class", "1st", "a-b", "model.width", "größe", "x" * 65, ""])
def test_name_is_one_in_python(name: str) -> None:
    assert rule({name: [1, 2]}, name) == "is no name in Python of at most 64 of a-z, A-Z, 0-9, '_'"


def test_names_differ_by_more_than_capitals() -> None:
    assert rule({"width": 1, "Width": 2}, "Width") == "differs from width in capitals only"


def test_number_of_parameters_is_limited() -> None:
    raw: dict[str, object] = {f"p{index}": 1 for index in range(MAX_PARAMETERS + 1)}
    assert rule(raw, f"p{MAX_PARAMETERS}") == "is one of 101 parameters; at most 100 are searched"


def test_a_constraint_names_parameters_of_the_space_only() -> None:
    raw = {"depth": [1, 2], "constraints": ["depth * lr < 1"]}
    assert rule(raw, "constraints") == "'depth * lr < 1': unknown parameter 'lr'; known: depth"


def test_mixed_values_are_refused() -> None:
    assert rule({"depth": [1, "two"]}, "depth") == (
        "1 and 'two' are of different kinds; all values are of one kind"
    )


def test_a_baseline_has_every_parameter_that_applies() -> None:
    space = parse_space(SPACE, FREE)
    given = {"optimizer": "adamw", "batch_size": 1, "model": "small", "depth": 2, "flag": True}
    assert parse_baseline(given, space) == given
    del given["depth"]
    with pytest.raises(SpaceError) as caught:
        parse_baseline({**given, "lr": 0.1}, space)
    assert caught.value.mistakes == {
        "lr": "0.1 is outside of the space, which leaves this parameter out",
        "depth": "is missing",
    }
