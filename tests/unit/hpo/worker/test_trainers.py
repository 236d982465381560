"""The recipe of a pack follows from the study and the pack key."""

import pytest
from support.loss_settings import NAME, register
from support.study_file import TEXT, load

from hpo.values.parameters import pack_key
from hpo.values.stage import STAGES
from hpo.worker.trainers import recipe_of

KEY = pack_key({"batch_size": 32})


def test_batch_size_comes_from_the_pack_key_and_the_budget_from_the_stage() -> None:
    recipe = recipe_of(load(), "full", KEY)
    assert recipe.batch_size == 32
    assert recipe.budget == load().budget("full")


def test_columns_are_the_parameters_of_the_space_that_members_have_on_their_own() -> None:
    text = TEXT.replace("[space]", "[space]\nclip = 1.0\ndropout = [0.1, 0.2]\nmodel.width = 8")
    for stage in STAGES:
        columns = recipe_of(load(text), stage, KEY).columns
        assert set(columns) == {"lr", "momentum", "weight_decay", "clip", "dropout"}


def test_settings_of_the_loss_are_those_that_the_study_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    assert NAME not in recipe_of(load(), "search", KEY).columns
    searched = load(TEXT.replace("[space]", f"[space]\n{NAME} = [0.0, 0.1]"))
    assert NAME in recipe_of(searched, "search", KEY).columns
