import math
from typing import Any

import pytest

from hpo.errors import InputError
from hpo.transfer.recipe import LEARNING_RATES, TransferRecipe


def test_default_is_the_papers_transfer() -> None:
    recipe = TransferRecipe()
    assert (recipe.layers, recipe.epochs, recipe.learning_rate) == ("last", 5, 0.1)
    assert (recipe.params["optimizer"], recipe.params["momentum"]) == ("sgd", 0.0)


def test_learning_rate_is_the_given_one_or_that_of_the_layers() -> None:
    assert TransferRecipe("all").learning_rate == LEARNING_RATES["all"]
    assert TransferRecipe("all", lr=0.2).params["lr"] == 0.2


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("layers", "first", "must be last or all"),
        ("epochs", 0, "must be at least 1"),
        ("lr", 0.0, "must be a number above 0"),
        ("lr", math.nan, "must be a number above 0"),
        ("lr", math.inf, "must be a number above 0"),
        ("batch_size", 1, "must be at least 2"),
        ("seed", -1, "must be from 0"),
    ],
)
def test_value_out_of_range_is_refused(name: str, value: Any, rule: str) -> None:
    with pytest.raises(InputError, match=f"{name} = {value!r}: {rule}"):
        TransferRecipe(**{name: value})
