"""Variants: the first value of each keyword, and each other value of one keyword at a time."""

from collections.abc import Mapping

import pytest

from hpo.errors import InputError
from hpo.spec.mistakes import SpaceInputError
from hpo.training.variants import Variant, check_keywords, variants
from hpo.values.space_section import parse_space


def points(space: Mapping[str, object]) -> list[dict[str, object]]:
    return [variant.point for variant in variants(parse_space(space))]


def test_space_without_keywords_has_one_variant() -> None:
    assert variants(parse_space({"lr": [0.1, 0.2]})) == [Variant({}, None)]


def test_each_value_and_both_ends_of_a_range_are_varied_alone() -> None:
    space = {"lr": [0.1, 0.2], "model.width": [8, 16, 32], "model.drop": {"low": 0.1, "high": 0.5}}
    assert points(space) == [
        {"model.width": 8, "model.drop": 0.1},
        {"model.width": 8, "model.drop": 0.5},
        {"model.width": 16, "model.drop": 0.1},
        {"model.width": 32, "model.drop": 0.1},
    ]
    assert [variant.varied for variant in variants(parse_space(space))] == [
        None,
        "model.drop",
        "model.width",
        "model.width",
    ]


def test_mistake_names_the_keyword_that_varies() -> None:
    variant = Variant({"model.a": "x"}, "model.a")
    with pytest.raises(SpaceInputError, match="odd") as raised, variant.mistakes():
        raise InputError("odd")
    assert raised.value.key == 'model.a = "x"'
    with pytest.raises(InputError) as plain, Variant({"model.a": "x"}, None).mistakes():
        raise InputError("odd")
    assert not isinstance(plain.value, SpaceInputError)


def test_first_value_of_the_only_keyword_is_named() -> None:
    assert variants(parse_space({"model.width": [8, 16]}))[0].varied == "model.width"


def test_unknown_keyword_of_a_registered_network_is_refused() -> None:
    with pytest.raises(SpaceInputError, match="model 'lenet' takes no keyword 'width'"):
        check_keywords("lenet", parse_space({"model.width": [8, 16]}), ("classes",))
    check_keywords("lenet", parse_space({"lr": [0.1]}), ("classes",))


def test_conditional_keyword_is_left_out_in_one_variant() -> None:
    space = {
        "optimizer": ["sgd", "adam"],
        "model.width": {"choices": [8, 16], "when": {"optimizer": "sgd"}},
    }
    assert points(space) == [{"model.width": 8}, {"model.width": 16}, {}]


def test_variants_meet_the_constraints() -> None:
    space = {
        "model.first": [16, 64],
        "model.second": {"choices": [64, 16], "when": {"depth": 2}},
        "model.depth": [1, 2],
        "constraints": ["model.second <= model.first", "model.depth > 1"],
    }
    found = points(space)
    pairs = {(point["model.first"], point["model.second"]) for point in found}
    assert pairs == {(64, 64), (64, 16), (16, 16)}
    assert {point["model.depth"] for point in found} == {2}


def test_value_that_breaks_the_constraints_has_no_variant() -> None:
    space = {"model.width": [8, 16, 32], "constraints": "model.width < 20"}
    assert points(space) == [{"model.width": 8}, {"model.width": 16}]


def test_keyword_with_two_parents_is_varied_where_it_applies() -> None:
    second = {"choices": [3, 4], "when": {"depth": 2, "norm": True}}
    found = points({"model.depth": [1, 2], "model.norm": [False, True], "model.second": second})
    assert found[-2:] == [{"model.depth": 2, "model.norm": True, "model.second": value} for value in (3, 4)]
