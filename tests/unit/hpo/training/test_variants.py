"""Variants: the first value of each keyword, and each other value of one keyword at a time."""

import pytest

from hpo.errors import InputError
from hpo.spec.mistakes import SpaceInputError
from hpo.training.variants import Variant, check_keywords, variants
from hpo.values.space_section import parse_space


def points(space: dict[str, object]) -> list[dict[str, object]]:
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
        check_keywords("lenet", parse_space({"model.width": [8, 16]}))
    check_keywords("lenet", parse_space({"lr": [0.1]}))
