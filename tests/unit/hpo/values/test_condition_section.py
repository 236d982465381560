"""The key `when` of a parameter: parsed, combined with the registry's conditions, and refused."""

from typing import Any

import pytest

from hpo.values.conditions import Condition
from hpo.values.space import Choices, Range
from hpo.values.space_section import SpaceError, parse_space, space_to_json

RAW: dict[str, Any] = {
    "lr": {"low": 0.1, "high": 1.0},
    "optimizer": ["sgd", "adamw"],
    "weight_decay": {"low": 0.1, "high": 0.4, "step": 0.1},
    "model": {"depth": [1, 2, 3], "norm": [True, False], "heads": {"low": 1, "high": 4000}},
}


def conditions(when: object, name: str = "model.width") -> tuple[Condition, ...]:
    """Return the conditions of a parameter of the space with the key `when`."""
    raw = {**RAW, name: {"choices": [16.0], "when": when}}
    space = parse_space(raw)
    assert parse_space(space_to_json(space)) == space
    return space.conditions[name]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({"depth": 2}, [("model.depth", (2,))]),
        ({"model.depth": [3, 2, 3]}, [("model.depth", (2, 3))]),
        ({"optimizer": "sgd"}, [("optimizer", ("sgd",))]),
        ({"norm": True, "depth": [2.0]}, [("model.depth", (2,)), ("model.norm", (True,))]),
        ({"weight_decay": [0.3, 0.4]}, [("weight_decay", (0.30000000000000004, 0.4))]),
    ],
)
def test_condition_names_parents_and_their_values(when: object, expected: list[Any]) -> None:
    assert [(entry.parent, entry.values) for entry in conditions(when)] == expected


def test_condition_of_a_range() -> None:
    space = parse_space({**RAW, "model.width": {"low": 16, "high": 64, "when": {"depth": [2, 3]}}})
    assert space.domains["model.width"] == Range(16, 64, integer=True)
    assert space.conditions == {"model.width": (Condition("model.depth", (2, 3)),)}
    plain = space_to_json(space)
    assert plain["model.width"] == {"low": 16, "high": 64, "when": {"model.depth": [2, 3]}}
    assert parse_space(plain) == space


def test_table_of_choices_without_a_condition_is_a_list() -> None:
    space = parse_space({"model.width": {"choices": [16, 32]}, "lr": {"choices": 1}})
    assert space.domains == {"lr": Choices((1.0,)), "model.width": Choices((16, 32))}
    assert space_to_json(space) == {"lr": [1.0], "model.width": [16, 32]}


def test_condition_adds_to_that_of_the_registry() -> None:
    own = Condition("optimizer", ("sgd",))
    assert conditions({"model.norm": True}, "weight_decay") == (Condition("model.norm", (True,)),)
    space = parse_space({**RAW, "momentum": {"choices": [0.5], "when": {"model.norm": True}}})
    assert space.conditions["momentum"] == (own, Condition("model.norm", (True,)))
    assert space_to_json(space)["momentum"] == {"choices": [0.5], "when": {"model.norm": [True]}}
    assert parse_space(space_to_json(space)) == space


def test_condition_that_the_registry_implies_is_left_out() -> None:
    plain = parse_space({**RAW, "momentum": [0.5]})
    for values in ("sgd", ["sgd", "adamw"]):
        assert parse_space({**RAW, "momentum": {"choices": [0.5], "when": {"optimizer": values}}}) == plain


def test_bare_keyword_is_a_parameter_of_the_network_only_where_no_other_has_the_name() -> None:
    raw = {"batch_size": [16, 32], "model": {"batch_size": [1, 2]}}
    space = parse_space({**raw, "model.x": {"choices": [1], "when": {"batch_size": 16}}})
    assert space.conditions["model.x"] == (Condition("batch_size", (16,)),)
    assert conditions({"depth": 1}) == (Condition("model.depth", (1,)),)
    with pytest.raises(SpaceError, match=r"^lr: when: the space has no parameter 'depth'; did you mean"):
        parse_space({**RAW, "lr": {"choices": [1.0], "when": {"depth": 1}}})


@pytest.mark.parametrize(
    ("when", "rule"),
    [
        ({}, "when names no parameter"),
        ("depth", "when ('depth') must be a table of parameters and their values"),
        ({"detph": 1}, "when: the space has no parameter 'detph'; did you mean 'depth'?"),
        (
            {"momentum": 1},
            "when: the space has no parameter 'momentum'; known: lr, ",
        ),
        ({"width": 16}, "when: model.width depends on itself"),
        ({"depth": 1, "model.depth": 2}, "when names model.depth twice"),
        ({"depth": []}, "when gives model.depth no value"),
        ({"depth": [2, 4]}, "when: model.depth is never 4; known: 1, 2, 3"),
        ({"depth": "2"}, "when: model.depth is never '2'; known: 1, 2, 3"),
        ({"depth": True}, "when: model.depth is never True; known: 1, 2, 3"),
        ({"depth": [[2]]}, "when: model.depth is never [2]; known: 1, 2, 3"),
        ({"norm": 1}, "when: model.norm is never 1; known: true, false"),
        ({"optimizer": "adam"}, "when: optimizer is never 'adam'; did you mean 'adamw'?"),
        (
            {"weight_decay": 0.25},
            "when: weight_decay is never 0.25; known: 0.1, 0.2, 0.30000000000000004, 0.4",
        ),
        ({"lr": 0.5}, "when: lr is a continuous range; give it a list of values or a step"),
        ({"heads": 1}, "when: model.heads has 4000 values; a condition needs at most 1000"),
    ],
)
def test_invalid_condition_is_refused_in_one_line(when: object, rule: str) -> None:
    with pytest.raises(SpaceError) as caught:
        conditions(when)
    assert caught.value.mistakes.keys() == {"model.width"}
    assert caught.value.mistakes["model.width"].startswith(rule)


def test_circle_of_conditions_is_refused() -> None:
    raw = {f"model.{name}": {"choices": [1, 2], "when": {parent: 1}} for name, parent in ("ab", "bc", "ca")}
    with pytest.raises(SpaceError) as caught:
        parse_space(raw)
    rule = "when: model.a depends on model.b, which depends on model.c, which depends on model.a"
    assert caught.value.mistakes == {"model.a": rule}


def test_conditions_that_contradict_each_other_are_refused() -> None:
    second = {"choices": [1, 2], "when": {"depth": 1}}
    third = {"choices": [1, 2], "when": {"depth": [2, 3], "second": 1}}
    with pytest.raises(SpaceError) as caught:
        parse_space({**RAW, "model.second": second, "model.third": third})
    rule = "never applies: it does only where model.depth is 2 or 3 and model.second is 1"
    assert caught.value.mistakes == {"model.third": rule}
    with pytest.raises(SpaceError) as caught:
        parse_space({**RAW, "momentum": {"choices": [0.5], "when": {"optimizer": "adamw"}}})
    rule = "never applies: it does only where optimizer is sgd and optimizer is adamw"
    assert caught.value.mistakes == {"momentum": rule}


def test_unknown_key_of_a_table() -> None:
    with pytest.raises(SpaceError) as caught:
        parse_space({"model.a": {"choices": [1], "wen": {}}, "model.b": {"low": 1, "high": 2, "wen": {}}})
    assert caught.value.mistakes == {
        "model.a": "unknown key 'wen'; a table with choices has only when beside them",
        "model.b": "unknown key 'wen'; a range has low, high, log, step, when",
    }
