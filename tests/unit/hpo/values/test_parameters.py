import pytest

from hpo.values import parameters
from hpo.values.parameters import (
    PARAMETERS,
    BuiltInVocabulary,
    Parameter,
    Role,
    default_of,
    describe,
    domain_of,
    model_keywords,
    of_role,
    pack_key,
    pack_keys,
    parameter_of,
    with_defaults,
)
from hpo.values.space import Choices, Condition, SearchSpace


def test_defaults_keep_their_own_rule() -> None:
    for parameter in PARAMETERS.values():
        assert parameter.parse(parameter.default) == parameter.default


def test_point_gets_the_defaults_of_what_it_leaves_out() -> None:
    params = with_defaults({"lr": 0.5})
    assert params["lr"] == 0.5
    assert params["batch_size"] == PARAMETERS["batch_size"].default
    assert next(iter(params)) == "lr"


CONDITIONAL = BuiltInVocabulary(
    {
        **PARAMETERS,
        "rule": Parameter("text", Role.PACK, "plain", "a rule", lambda value: value in ("plain", "odd"), ""),
        "odd": Parameter(
            "boolean",
            Role.LOSS,
            False,
            "true or false",
            lambda _: True,
            "",
            Condition("rule", ("odd",)),
        ),
    }
)
"""With a text parameter `rule`, on which a switch depends."""


def test_parameter_that_does_not_apply_has_no_default() -> None:
    assert "odd" not in CONDITIONAL.with_defaults({})
    assert "odd" not in CONDITIONAL.with_defaults({"rule": "plain"})
    assert CONDITIONAL.with_defaults({"rule": "odd"})["odd"] is False


def test_pack_key_has_every_parameter_that_changes_the_computation() -> None:
    key = CONDITIONAL.pack_key({"lr": 0.1, "batch_size": 16})
    assert key == (("batch_size", 16), ("optimizer", "sgd"), ("rule", "plain"))
    key = CONDITIONAL.pack_key({"rule": "odd"})
    assert key == (("batch_size", 64), ("optimizer", "sgd"), ("rule", "odd"))
    assert describe(key) == "batch size 64, rule odd"


def test_pack_key_has_the_keywords_of_the_network_that_apply() -> None:
    point = {"model.width": 8, "lr": 0.1, "model.drop": 0.5, "dropout": 0.1}
    key = pack_key(point)
    assert key == (("batch_size", 64), ("optimizer", "sgd"), ("model.drop", 0.5), ("model.width", 8))
    assert model_keywords(dict(key)) == model_keywords(point) == {"drop": 0.5, "width": 8}
    assert describe(key) == "batch size 64, model.drop 0.5, model.width 8"
    space = SearchSpace({"model.width": Choices((8, 16)), "batch_size": Choices((16, 32, 64))})
    assert pack_keys(space) == 6


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("number", 1, 1.0),
        ("number", True, None),
        ("integer", 3, 3),
        ("integer", 3.0, None),
        ("text", "a", "a"),
        ("text", 1, None),
        ("boolean", False, False),
        ("boolean", 0, None),
    ],
)
def test_value_is_of_the_kind_of_its_parameter(kind: parameters.Kind, raw: object, value: object) -> None:
    parsed = Parameter(kind, Role.LOSS, 0, "any", lambda _: True, "").parse(raw)
    assert parsed == value
    assert type(parsed) is type(value)


def test_keyword_of_the_network_is_a_parameter_without_a_default() -> None:
    width = parameter_of("model.width", "integer")
    assert (width.role, width.kind, width.default) == (Role.MODEL, "integer", None)
    assert width.parse(16) == 16
    assert width.parse(16.5) is None
    assert parameter_of("lr") is PARAMETERS["lr"]
    for name in ("width", "model"):
        with pytest.raises(KeyError):
            parameter_of(name)
    with pytest.raises(KeyError):
        default_of("model.width")


def test_point_keeps_the_keywords_of_the_network() -> None:
    params = with_defaults({"model.width": 32, "lr": 0.5})
    assert params["model.width"] == 32
    assert "model.depth" not in params
    assert of_role(params, Role.MODEL) == ["model.width"]
    assert of_role([*params, "unknown"], Role.PACK) == ["batch_size", "optimizer"]


def test_domain_of_a_keyword_is_that_of_the_space() -> None:
    space = SearchSpace({"model.width": Choices((16, 32))})
    assert domain_of(space, "model.width") == Choices((16, 32))
    assert domain_of(space, "lr") == Choices((default_of("lr"),))
    with pytest.raises(KeyError):
        domain_of(space, "model.depth")


def test_pack_key_in_words_names_a_keyword_of_the_network() -> None:
    key = (("batch_size", 16), ("model.is_wide", True), ("model.rate", 0.2642946316300108))
    assert describe(key) == "batch size 16, model.is_wide True, model.rate 0.264295"
