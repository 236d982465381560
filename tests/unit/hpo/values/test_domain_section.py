"""Domains of keywords of the network: their kind is that of their values."""

import pytest

from hpo.values.domain_section import DomainError, domain_to_json, parse_domain
from hpo.values.space import Choices, Domain, Range


@pytest.mark.parametrize(
    ("raw", "domain"),
    [
        (16, Choices((16,))),
        ([16, 32], Choices((16, 32))),
        ([16, 32.0], Choices((16.0, 32.0))),
        ([-1.5, 0], Choices((-1.5, 0.0))),
        (["relu", "gelu"], Choices(("relu", "gelu"))),
        ([True, False], Choices((True, False))),
        ({"low": 16, "high": 64}, Range(16, 64, integer=True)),
        ({"low": 16, "high": 64, "log": True}, Range(16, 64, log=True, integer=True)),
        ({"low": 16, "high": 64, "step": 16}, Range(16, 64, step=16, integer=True)),
        ({"low": 16.0, "high": 64}, Range(16.0, 64.0)),
        ({"low": 0, "high": 0.5, "step": 0.1}, Range(0.0, 0.5, step=0.1)),
        ({"low": -2, "high": 2}, Range(-2, 2, integer=True)),
    ],
)
def test_keyword_has_the_kind_of_its_values(raw: object, domain: Domain) -> None:
    parsed = parse_domain("model.width", raw)
    # As text, so that 16 and 16.0 are told apart.
    assert repr(parsed) == repr(domain)
    assert repr(parse_domain("model.width", domain_to_json(parsed))) == repr(domain)


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        ([16, "wide"], "16 and 'wide' are of different kinds; all values are of one kind"),
        ([1, True], "1 and True are of different kinds; all values are of one kind"),
        ({"low": 1, "high": "2"}, "1 and '2' are of different kinds; all values are of one kind"),
        ([[16]], "[16] is neither a number nor text, true or false"),
        (None, "None is neither a number nor text, true or false"),
        ([], "needs at least one choice"),
        ({}, "a range needs low and high"),
        ({"b": [1]}, "unknown key 'b'; a range has low, high, log, step, when"),
        ([16, 32, 16], "names 16 twice"),
        ([1, 1.0], "names 1.0 twice"),
        (
            {"low": "a", "high": "b"},
            "a range is one of numbers; give a list of values, each text of printable characters",
        ),
        ("", "'' is not text of printable characters"),
        ("a\nb", "'a\\nb' is not text of printable characters"),
        (2**53 + 1, f"{2**53 + 1} is not a whole number of at most 2^53 in size"),
        (
            {"low": 1, "high": 3, "step": 0.5},
            "step (0.5) must be a number above 0, whole if the parameter is",
        ),
    ],
)
def test_invalid_domain_of_a_keyword(raw: object, rule: str) -> None:
    with pytest.raises(DomainError) as caught:
        parse_domain("model.width", raw)
    assert str(caught.value) == rule


def test_parameter_of_the_registry_has_its_own_kind() -> None:
    assert repr(parse_domain("lr", [1, 2])) == repr(Choices((1.0, 2.0)))
    with pytest.raises(DomainError):
        parse_domain("batch_size", [16.0])
