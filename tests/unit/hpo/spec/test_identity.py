from dataclasses import replace

import pytest

from hpo.data.dataset import DataHashes
from hpo.spec.identity import DATA, FUNCTION, NETWORK, UNKNOWN, Identity

HASHES = DataHashes(content="a" * 64, train="b" * 64, test="c" * 64)
WHOLE = Identity(HASHES, "d" * 64)
IMAGES = "images or labels"


OF_FUNCTION = Identity(function="e" * 64)


@pytest.mark.parametrize(
    "identity", [WHOLE, Identity(HASHES), Identity(network="d" * 64), OF_FUNCTION, UNKNOWN]
)
def test_attributes_are_read_back(identity: Identity) -> None:
    assert Identity.from_attributes({"hpo:key": "other", **identity.to_attributes()}) == identity


def test_unknown_hashes_are_not_stored() -> None:
    assert UNKNOWN.to_attributes() == {}
    assert set(Identity(HASHES).to_attributes()) == {DATA}
    assert set(WHOLE.to_attributes()) == {DATA, NETWORK}
    assert set(OF_FUNCTION.to_attributes()) == {FUNCTION}


@pytest.mark.parametrize(
    ("present", "key", "part"),
    [
        (
            replace(WHOLE, data=replace(HASHES, train="x", content="y")),
            "data.name",
            f"training {IMAGES}",
        ),
        (replace(WHOLE, data=replace(HASHES, test="x", content="y")), "data.name", f"test {IMAGES}"),
        (replace(WHOLE, data=replace(HASHES, content="x")), "data.name", "classes"),
        (replace(WHOLE, network="x"), "model.name", "code"),
    ],
)
def test_difference_names_key_and_part(present: Identity, key: str, part: str) -> None:
    difference = WHOLE.difference(present)
    assert difference is not None
    assert (difference.key, difference.part, difference.present) == (key, part, "x")
    assert f"the hash of its {part} is x, in the stored study 'small' it is {difference.stored[:12]}" == (
        difference.describe("small")
    )


@pytest.mark.parametrize("present", [WHOLE, UNKNOWN, Identity(HASHES), Identity(network=WHOLE.network)])
def test_equal_and_unknown_parts_are_no_difference(present: Identity) -> None:
    assert WHOLE.difference(present) is None
    assert present.difference(WHOLE) is None


def test_other_code_of_a_function_is_a_difference() -> None:
    difference = OF_FUNCTION.difference(Identity(function="x"))
    assert difference is not None
    assert (difference.key, difference.part, difference.present) == ("train.function", "code", "x")
    assert WHOLE.with_code_of(Identity(network="x")) == replace(WHOLE, network="x")
