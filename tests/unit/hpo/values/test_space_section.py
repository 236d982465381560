import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.space_files import file_spaces

from hpo.values.parameters import PARAMETERS
from hpo.values.space import Choices, Range, SearchSpace
from hpo.values.space_section import SpaceError, parse_space, space_to_json
from hpo.values.wording import spelling_hint

FIXED: dict[str, object] = {"lr": 0.1, "batch_size": 32, "momentum": 0.9, "weight_decay": 0}


def parse(**raw: object) -> dict[str, Choices | Range]:
    return dict(parse_space({**FIXED, **raw}).domains)


def mistakes(**raw: object) -> dict[str, str]:
    with pytest.raises(SpaceError) as caught:
        parse_space({**FIXED, **raw})
    return dict(caught.value.mistakes)


@pytest.mark.parametrize(
    ("name", "raw", "domain"),
    [
        ("lr", 0.1, Choices((0.1,))),
        ("lr", [1, 0.1], Choices((1.0, 0.1))),
        ("batch_size", [16, 32], Choices((16, 32))),
        ("momentum", [0, 0.9], Choices((0.0, 0.9))),
        ("lr", {"low": 1e-3, "high": 1}, Range(0.001, 1.0)),
        ("lr", {"low": 1e-3, "high": 1, "log": True}, Range(0.001, 1.0, log=True)),
        ("momentum", {"low": 0, "high": 0.9, "step": 0.1}, Range(0.0, 0.9, step=0.1)),
        ("lr", {"low": 1, "high": 3, "step": 1}, Range(1.0, 3.0, step=1.0)),
        ("batch_size", {"low": 16, "high": 64}, Range(16, 64, integer=True)),
        ("batch_size", {"low": 16, "high": 64, "step": 16}, Range(16, 64, step=16, integer=True)),
        ("batch_size", {"low": 16, "high": 64, "log": True}, Range(16, 64, log=True, integer=True)),
    ],
)
def test_domain_is_parsed(name: str, raw: object, domain: Choices | Range) -> None:
    parsed = parse(**{name: raw})[name]
    # As text, so that 16 and 16.0 are told apart.
    assert repr(parsed) == repr(domain)


def test_parameter_order_does_not_depend_on_the_file() -> None:
    backwards = dict(reversed(FIXED.items()))
    assert list(parse_space(backwards).domains) == list(FIXED)


@pytest.mark.parametrize(
    ("name", "raw", "rule"),
    [
        ("lr", 0, "0 is not a number above 0"),
        ("lr", [0.1, -1e-3], "-0.001 is not a number above 0"),
        ("lr", True, "True is not a number above 0"),
        ("lr", "fast", "'fast' is not a number above 0"),
        ("lr", [[0.1]], "[0.1] is not a number above 0"),
        ("lr", None, "None is not a number above 0"),
        ("lr", math.nan, "nan is not a number above 0"),
        ("lr", math.inf, "inf is not a number above 0"),
        ("lr", 10**309, f"1{'0' * 79}... is not a number above 0"),
        ("batch_size", 1, "1 is not a whole number of at least 2"),
        ("batch_size", [16, 32.0], "32.0 is not a whole number of at least 2"),
        ("batch_size", 10**309, f"1{'0' * 79}... is not a whole number of at least 2"),
        ("batch_size", [64, 2**53 + 1], "9007199254740993 is more than 2^53"),
        ("batch_size", {"low": 2, "high": 10**20}, "100000000000000000000 is more than 2^53"),
        (
            "model.x",
            {"low": -1e308, "high": 1e308},
            "high (1e+308) - low (-1e+308) is more than a number can hold",
        ),
        ("momentum", 1, "1 is not a number from 0 to below 1"),
        ("momentum", [-0.1], "-0.1 is not a number from 0 to below 1"),
        ("weight_decay", -1e-9, "-1e-09 is not a number of at least 0"),
        ("lr", [], "needs at least one choice"),
        ("lr", [0.1, 1, 0.1], "names 0.1 twice"),
        ("lr", [1, 1.0], "names 1.0 twice"),
        ("lr", {}, "a range needs low and high"),
        ("lr", {"low": 0.1}, "a range needs low and high"),
        ("lr", {"high": 0.1}, "a range needs low and high"),
        ("lr", {"low": 0.1, "high": 0.1}, "low (0.1) must be below high (0.1)"),
        ("lr", {"low": 1, "high": 0.1}, "low (1.0) must be below high (0.1)"),
        ("lr", {"low": 0, "high": 0.1}, "0 is not a number above 0"),
        ("lr", {"low": 0.1, "high": "1"}, "'1' is not a number above 0"),
        ("momentum", {"low": 0, "high": 1}, "1 is not a number from 0 to below 1"),
        ("batch_size", {"low": 16.0, "high": 64}, "16.0 is not a whole number of at least 2"),
        (
            "lr",
            {"low": 0.1, "high": 1, "base": 10},
            "unknown key 'base'; a range has low, high, log, step, when",
        ),
        ("lr", {"low": 0.1, "high": 1, "log": "yes"}, "log ('yes') must be true or false"),
        ("lr", {"low": 0.1, "high": 1, "log": 1}, "log (1) must be true or false"),
        ("momentum", {"low": 0, "high": 0.9, "log": True}, "log needs a low above 0 and no step"),
        ("lr", {"low": 0.1, "high": 1, "log": True, "step": 0.1}, "log needs a low above 0 and no step"),
        (
            "lr",
            {"low": 0.1, "high": 1, "step": 0.4},
            "step (0.4) must lead from low (0.1) to high (1.0) exactly",
        ),
        (
            "batch_size",
            {"low": 16, "high": 64, "step": 20},
            "step (20) must lead from low (16) to high (64) exactly",
        ),
    ],
)
def test_invalid_domain_names_the_broken_rule(name: str, raw: object, rule: str) -> None:
    assert mistakes(**{name: raw}) == {name: rule}


@pytest.mark.parametrize("step", [0, -0.1, "0.1", True, math.inf, math.nan, 10**309])
def test_step_must_be_a_positive_finite_number(step: object) -> None:
    rule = f"step ({step!r}) must be a number above 0, whole if the parameter is"
    assert mistakes(lr={"low": 0.1, "high": 1, "step": step}) == {"lr": rule}


def test_step_of_an_integer_range_is_an_integer() -> None:
    rule = "step (1.5) must be a number above 0, whole if the parameter is"
    assert mistakes(batch_size={"low": 16, "high": 64, "step": 1.5}) == {"batch_size": rule}


def test_every_mistake_is_reported() -> None:
    with pytest.raises(SpaceError) as caught:
        parse_space({"lr": [], "batch_size": 1, "learning_rate": 0.1, "momentum": 0.9})
    assert caught.value.mistakes == {
        "learning_rate": f"unknown key; known: {', '.join(PARAMETERS)}, model.KEYWORD",
        "lr": "needs at least one choice",
        "batch_size": "1 is not a whole number of at least 2",
    }
    assert str(caught.value).count(";") >= 2


def test_parameter_that_is_left_out_is_not_searched() -> None:
    assert parse_space({"lr": [0.1, 0.2]}) == SearchSpace({"lr": Choices((0.1, 0.2))})


def test_misspelled_parameter_is_reported_once() -> None:
    raw = {**FIXED, "batchsize": 32}
    del raw["batch_size"]
    with pytest.raises(SpaceError) as caught:
        parse_space(raw)
    assert caught.value.mistakes == {"batchsize": "unknown key; did you mean 'batch_size'?"}


def test_spelling_hint_names_the_closest_key_or_all_keys() -> None:
    assert spelling_hint("momentun", PARAMETERS) == "; did you mean 'momentum'?"
    assert spelling_hint("zzz", PARAMETERS) == f"; known: {', '.join(PARAMETERS)}"
    assert spelling_hint("zzz", []) == ""


def test_keywords_of_the_network_are_a_table_or_have_full_names() -> None:
    space = parse_space({"model": {"width": [16, 32], "act": "relu"}, "lr": 0.1})
    assert space == SearchSpace(
        {"lr": Choices((0.1,)), "model.act": Choices(("relu",)), "model.width": Choices((16, 32))}
    )
    assert list(space.domains) == ["lr", "model.act", "model.width"]
    assert parse_space({"model.width": [16, 32], "model.act": "relu", "lr": 0.1}) == space
    assert space_to_json(space) == {"lr": [0.1], "model.act": ["relu"], "model.width": [16, 32]}


@pytest.mark.parametrize("word", ["class", "2d", "is-wide", "größe", "a" * 65, ""])
def test_keyword_of_the_network_is_a_name_in_python(word: str) -> None:
    rule = "a keyword of the network is a name in Python of at most 64 of a-z, A-Z, 0-9, '_'"
    assert mistakes(model={word: [1]}) == {f"model.{word}": rule}


@pytest.mark.parametrize(
    ("raw", "broken"),
    [
        ({"model": 3}, {"model": "must be a table of keywords of the network"}),
        ({"model": {}}, {"model": "must be a table of keywords of the network"}),
        ({"model": {"classes": 2}}, {"model.classes": "the data decide this keyword of the network"}),
        ({"model.in_channels": 2}, {"model.in_channels": "the data decide this keyword of the network"}),
        ({"model.w": 1, "model": {"w": 2}}, {"model.w": "is given twice"}),
        ({"model": {"W": 1, "w": 2}}, {"model.w": "differs from model.W in capitals only"}),
    ],
)
def test_invalid_keywords_of_the_network(raw: dict[str, object], broken: dict[str, str]) -> None:
    assert mistakes(**raw) == broken


@st.composite
def raw_domains(draw: st.DrawFn, unit: float, lowest: int, highest: int) -> Any:
    """Draw a list, a value or a range of multiples of `unit`, as a study file writes them."""
    numbers = st.integers(lowest, highest)

    def written(n: int) -> float:
        return n if unit == 1 else n * unit

    kind = draw(st.sampled_from(["value", "list", "range", "log", "step"]))
    if kind == "value":
        return written(draw(numbers))
    if kind == "list":
        return [written(n) for n in draw(st.lists(numbers, min_size=1, max_size=6, unique=True))]
    low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    raw: dict[str, object] = {"low": written(low), "high": written(high)}
    if kind == "log" and low > 0:
        raw["log"] = True
    if kind == "step":
        raw["step"] = unit
    return raw


@given(
    st.fixed_dictionaries(
        {
            "lr": raw_domains(2**-10, 1, 4096),
            "batch_size": raw_domains(1, 2, 512),
            "momentum": raw_domains(2**-10, 0, 1023),
            "weight_decay": raw_domains(2**-10, 0, 100),
        }
    )
)
def test_space_survives_a_json_round_trip(raw: dict[str, Any]) -> None:
    space = parse_space(raw)
    assert parse_space(space_to_json(space)) == space
    assert space_to_json(parse_space(space_to_json(space))) == space_to_json(space)


CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@settings(max_examples=40, suppress_health_check=CHECKS)
@given(file_spaces(), st.integers(0, 2**32 - 1))
def test_drawn_points_lie_in_a_space_that_survives_a_json_round_trip(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert all(space.draw(rng) in space for _ in range(5))
    plain = json.loads(json.dumps(space_to_json(space)))
    assert parse_space(plain) == space
    assert space_to_json(parse_space(plain)) == plain
    # As text, so that 16 and 16.0 are told apart.
    assert repr(parse_space(plain)) == repr(space)
