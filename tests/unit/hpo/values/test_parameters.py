import pytest

from hpo.values import parameters
from hpo.values.parameters import PARAMETERS, Parameter, Role, describe, pack_key, with_defaults
from hpo.values.space import Condition


def test_defaults_keep_their_own_rule() -> None:
    for parameter in PARAMETERS.values():
        assert parameter.parse(parameter.default) == parameter.default


def test_point_gets_the_defaults_of_what_it_leaves_out() -> None:
    params = with_defaults({"lr": 0.5})
    assert params["lr"] == 0.5
    assert params["batch_size"] == PARAMETERS["batch_size"].default
    assert next(iter(params)) == "lr"


@pytest.fixture
def conditional(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a text parameter `rule` to the registry, on which a switch and the condition of a number depend."""
    registry = {
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
    monkeypatch.setattr(parameters, "PARAMETERS", registry)
    monkeypatch.setattr(parameters, "CONDITIONS", {"odd": registry["odd"].when})
    monkeypatch.setattr(
        parameters, "_PACK_PARAMETERS", {name: registry[name] for name in ("batch_size", "rule")}
    )


@pytest.mark.usefixtures("conditional")
def test_parameter_that_does_not_apply_has_no_default() -> None:
    assert "odd" not in with_defaults({})
    assert "odd" not in with_defaults({"rule": "plain"})
    assert with_defaults({"rule": "odd"})["odd"] is False


@pytest.mark.usefixtures("conditional")
def test_pack_key_has_every_parameter_that_changes_the_computation() -> None:
    assert pack_key({"lr": 0.1, "batch_size": 16}) == (("batch_size", 16), ("rule", "plain"))
    assert pack_key({"rule": "odd"}) == (("batch_size", 64), ("rule", "odd"))
    assert describe(pack_key({"rule": "odd"})) == "batch size 64, rule odd"


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
