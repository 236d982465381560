"""Constraints of a study file: parsed, refused, and met or broken by points."""

from typing import Any

import pytest

from hpo.values.space import Point
from hpo.values.space_section import SpaceError, parse_space, space_to_json

RAW: dict[str, Any] = {
    "lr": [0.01, 0.1, 1.0],
    "optimizer": ["sgd", "adamw"],
    "model": {
        "act": ["relu", "gelu"],
        "norm": [True, False],
        "depth": [1, 2, 3],
        "width": {"choices": [16, 32], "when": {"depth": [2, 3]}},
    },
}
POINT: Point = {
    "lr": 0.1,
    "optimizer": "sgd",
    "model.act": "relu",
    "model.depth": 2,
    "model.norm": True,
    "model.width": 16,
}


def holds(constraint: str, **changes: Any) -> bool:
    space = parse_space({**RAW, "constraints": [constraint]})
    point = {name.replace("model_", "model."): value for name, value in changes.items()}
    return space.is_feasible({name: value for name, value in {**POINT, **point}.items() if value is not None})


@pytest.mark.parametrize(
    ("constraint", "changes", "met"),
    [
        ("lr * model.width < 2", {}, True),
        ("lr * model.width < 2", {"lr": 1.0}, False),
        ("lr * batch_size < 10", {}, True),  # the default of the batch size is 64
        ("lr * batch_size < 10", {"lr": 1.0}, False),
        ("model.width > 16", {}, False),
        ("model.width > 16", {"model_width": None, "model_depth": 1}, True),
        ("model.depth < model.width < 16", {}, False),
        ("model.depth < model.width < 16", {"model_width": None, "model_depth": 1}, True),
        ("model.act == 'relu'", {}, True),
        ('model.act != "relu"', {}, False),
        ("model.norm == false", {}, False),
        ("1 / (model.depth - 2) > 0", {}, False),
        ("1 / (model.depth - 2) > 0", {"model_depth": 3}, True),
        ("1 / (model.depth - 2) != 1", {}, False),
        ("lr * 3 == 0.3", {}, True),  # 0.30000000000000004 in floats
        ("lr * 3 > 0.3", {}, False),
        ("lr * 3 <= 0.3", {}, True),
        ("lr * 3 != 0.3", {}, False),
        ("1e308 * (100 * lr) - 1e308 * (100 * lr) <= lr", {"lr": 0.01}, True),
        ("1e308 * (100 * lr) - 1e308 * (100 * lr) <= lr", {"lr": 1.0}, False),  # infinity - infinity
        ("momentum > 0.95", {}, False),  # the default is 0.9
        ("momentum > 0.95", {"optimizer": "adamw"}, True),
        ("optimizer == 'sgd'", {"optimizer": "adamw"}, False),
    ],
)
def test_point_meets_a_constraint(constraint: str, changes: dict[str, Any], met: bool) -> None:
    assert holds(constraint, **changes) is met


def test_points_that_break_a_constraint_are_outside_the_space() -> None:
    space = parse_space({**RAW, "constraints": ["model.depth * 16 <= model.width"]})
    assert POINT not in space
    assert {**POINT, "model.width": 32} in space
    assert space.cells == 3 * 2 * 2 * 2 * (1 + 1)


@pytest.mark.parametrize(
    ("constraints", "rule"),
    [
        (
            "modle.depth < 2",
            "'modle.depth < 2': unknown parameter 'modle.depth'; did you mean 'model.depth'?",
        ),
        ("model.rate < 2", "'model.rate < 2': unknown parameter 'model.rate'; did you mean"),
        ("model.act < 'relu'", "compares model.act by <; a text has only == and !="),
        ("model.act == 1", "compares model.act with 1, a text with a number"),
        ("model.act + 1 < 2", "computes with model.act, a text"),
        ("-model.norm < 2", "computes with model.norm, a boolean"),
        ("model.norm < true", "compares model.norm by <; a boolean has only == and !="),
        ("model.act == 'rleu'", "model.act is never 'rleu'; did you mean 'relu'?"),
        ("'adam' == optimizer", "optimizer is never 'adam'; did you mean 'adamw'?"),
        ("1 < 2", "'1 < 2': names no parameter of the space"),
        ("batch_size < 100", "'batch_size < 100': names no parameter of the space"),
        ("lr <", "'lr <': expected a name, a number or a text in quotes, not the end, at column 5"),
        (3, '3 is no text, such as "model.second <= model.first"'),
        (["lr < 1", []], '[] is no text, such as "model.second <= model.first"'),
        (["lr < 1"] * 101, "has 101 constraints; at most 100 are allowed"),
        ("lr > 1", "no point of the space meets 'lr > 1'"),
        (["lr > 0.1", "lr < 1"], "no point of the space meets 'lr > 0.1', 'lr < 1'"),
        ("lr < 1 1 " + "1" * 100, "..."),
    ],
)
def test_invalid_constraints_are_refused_in_one_line(constraints: object, rule: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_space({**RAW, "constraints": constraints})
    (line,) = caught.value.mistakes.values()
    assert caught.value.mistakes.keys() == {"constraints"}
    assert rule in line
    assert "\n" not in line


def test_space_without_a_point_among_many_draws_is_refused() -> None:
    raw = {"lr": {"low": 0.1, "high": 1.0}, "constraints": "lr == 0.5"}
    with pytest.raises(SpaceError, match=r"^constraints: none of 10000 random points meets 'lr == 0.5'$"):
        parse_space(raw)


def test_one_constraint_may_stand_without_a_list() -> None:
    assert parse_space({**RAW, "constraints": "lr < 1"}) == parse_space({**RAW, "constraints": ["lr<1"]})
    assert parse_space({**RAW, "constraints": []}) == parse_space(RAW)


def test_constraints_are_stored_in_one_spelling() -> None:
    space = parse_space({**RAW, "constraints": ["lr<(1)", "lr  <  1.0", "lr < 1"]})
    assert space_to_json(space)["constraints"] == ["lr < 1", "lr < 1.0"]
    assert parse_space(space_to_json(space)) == space
