"""Python's values in a spec: those that stand for values of a study file, and those that do not."""

import datetime
import json
import math
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from hpo.errors import SpecError
from hpo.models.lenet import LeNet
from hpo.spec.plain_values import plain_values


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((16, 32), [16, 32]),
        (range(16, 65, 16), [16, 32, 48, 64]),
        (np.array([16, 32]), [16, 32]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(0.5), 0.5),
        (np.array(["sgd", "adam"]), ["sgd", "adam"]),
        (torch.tensor([1, 2]), [1, 2]),
        ([np.int64(3), np.float32(0.5), np.bool_(True), np.str_("a")], [3, 0.5, True, "a"]),
        ({"low": np.float64(0.1), "high": np.float64(0.2)}, {"low": 0.1, "high": 0.2}),
        (MappingProxyType({"low": (1,)}), {"low": [1]}),
        (OrderedDict(low=1), {"low": 1}),
        (Path("data") / "images", "data/images"),
        (datetime.date(2020, 2, 1), "2020-02-01"),
        (None, None),
        (LeNet, "hpo.models.lenet:LeNet"),
        (math.sqrt, "math:sqrt"),
    ],
)
def test_value_stands_for_that_of_a_file(value: Any, plain: object) -> None:
    read = plain_values({"key": value}, "study")["key"]
    assert read == plain
    assert type(read) is type(plain)
    json.dumps(read)


def local() -> type:
    class Net:
        pass

    return Net


class OfTheNotebook:
    __module__ = "__main__"


def lines(value: dict[str, Any]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        plain_values(value, "study")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ({0.1, 0.01}, "a set has no order; give a list"),
        (range(10**30), "has more than 100000 numbers; give a dict with low, high and step"),
        (object(), "is of the type object; give a number, text, true or false, a list or a dict"),
        (1 + 2j, "is of the type complex; give a number, text, true or false, a list or a dict"),
        (iter([1]), "is of the type list_iterator; give a number, text, true or false, a list or a dict"),
        (local(), "workers cannot import local.<locals>.Net of "),
        (
            OfTheNotebook,
            "workers cannot import OfTheNotebook of __main__; move it to the top level of ",
        ),
        (lambda: 1, "workers cannot import <lambda> of "),
    ],
)
def test_mistake_names_its_key(value: Any, rule: str) -> None:
    (line,) = lines({"space": {"lr": [0.1, value]}})
    assert line.startswith(f"study: space.lr: {rule}")


def test_each_mistake_is_one_line() -> None:
    assert lines({"data": {"name": {1}}, "space": {3: [1]}}) == [
        "study: data.name: a set has no order; give a list",
        "study: space.3: a key must be text",
    ]


@pytest.mark.parametrize("nest", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_twenty_levels_are_the_most(nest: Callable[[object], object]) -> None:
    value: object = 1
    for _ in range(19):
        value = nest(value)
    plain_values({"key": value}, "study")
    assert lines({"key": nest(value)}) == ["study: lists and tables are nested more than 20 deep"]


def test_a_list_that_contains_itself_is_refused() -> None:
    circle: list[object] = []
    circle.append(circle)
    assert lines({"key": circle}) == ["study: lists and tables are nested more than 20 deep"]
