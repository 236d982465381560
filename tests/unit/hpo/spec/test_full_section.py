"""The key `full.refit`: off by default, of networks alone, and changeable in a stored study."""

import pytest
from support.study_file import FUNCTION_TEXT, TEXT, load

from hpo.errors import SpecError

REFIT = TEXT.replace("[promotion]", "refit = true\n[promotion]")
RECIPE = REFIT.replace("[full]", '[full]\nrecipe = "paper"')


def test_refit_is_off_by_default() -> None:
    assert not load().full.refit
    assert load(REFIT).full.refit
    assert not load(FUNCTION_TEXT).full.refit


def test_training_function_has_no_refit() -> None:
    text = FUNCTION_TEXT.replace("[full]", "[full]\nrefit = true")
    with pytest.raises(SpecError) as caught:
        load(text)
    assert str(caught.value) == (
        "test: full.refit: is a key of a study with [model]; with [train], the only key is full.epochs"
    )


@pytest.mark.parametrize("text", [REFIT, RECIPE])
def test_file_without_the_key_switches_it_off(text: str) -> None:
    without = load(text.replace("refit = true\n", ""))
    assert without.identity() == load(text).identity()
    assert not without.keeping(load(text)).full.refit
    assert load(text).keeping(without).full.refit
