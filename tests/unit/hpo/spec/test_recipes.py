"""Recipes of full training: presets that a file overrides key by key, and that a stored study keeps."""

from collections.abc import Mapping
from typing import Any

import pytest
from support.study_file import TEXT, load

from hpo.errors import SpecError
from hpo.spec import recipes
from hpo.spec.recipes import RECIPES
from hpo.spec.study_spec import StudySpec
from hpo.values.budget import Augmentation, Budget, Phase

PHASES = "pretrain = { epochs = 2 }\nfinetune = { epochs = 1 }\naugment = { rotation = 10 }\n"


def full(keys: str, space: str = "") -> StudySpec:
    """Return a study with these lines in `[full]`, and in `[space]` beside others."""
    assert PHASES in TEXT
    return load(TEXT.replace(PHASES, f"{keys}\n").replace("[space]", f"[space]\n{space}"))


def phases(spec: StudySpec, optimizer: str = "sgd") -> tuple[Phase, ...]:
    return spec.budget("full", optimizer).phases


def test_recipe_of_the_paper_is_sgd_then_adam_with_early_stopping() -> None:
    augmentation = Augmentation(15, 0.1, (0.9, 1.1), 3)
    assert full('recipe = "paper"').budget("full") == Budget(
        "full",
        (
            Phase("sgd", 30, 3, 1.0, augmentation),
            Phase("adam", 15, 3, 1.0, augmentation, settings={"lr": 1e-3}),
        ),
        keep="best",
    )


def test_modern_recipe_is_one_phase_that_reaches_the_end_of_its_schedule() -> None:
    (phase,) = phases(full('recipe = "modern"'))
    values = RECIPES["modern"]
    assert (phase.epochs, phase.patience, phase.ema) == (20, None, None)
    assert phase.params == {name: values[name] for name in ("schedule", "label_smoothing", "nesterov")}


def test_keys_of_the_file_win_also_inside_of_a_table() -> None:
    first, second = phases(
        full('recipe = "paper"\npretrain = { epochs = 9 }\naugment = { shear = 0 }\nema = 0.9\nclip = 2')
    )
    assert (first.epochs, first.patience, first.clip, first.ema) == (9, 3, 2.0, 0.9)
    assert first.augmentation == Augmentation(15, 0.1, (0.9, 1.1), 0)
    assert (second.epochs, second.ema) == (15, 0.9)


OFF = {
    "ema = false": {"ema": None},
    "clip = false": {"clip": None},
    "augment = false": {"augmentation": None},
    "label_smoothing = 0": {"params": {"schedule": "one-cycle", "nesterov": True}},
    "nesterov = false": {"params": {"schedule": "one-cycle", "label_smoothing": 0.1}},
    'schedule = "constant"': {
        "params": {"label_smoothing": 0.1, "nesterov": True},
        "patience": 5,
    },
    "pretrain.patience = 7": {"patience": 7},
}


@pytest.fixture
def fixed_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    modern = {"label_smoothing": 0.1, "nesterov": True, "schedule": "one-cycle", "ema": 0.9, "clip": 1.0}
    monkeypatch.setitem(RECIPES, "modern", RECIPES["modern"] | modern)  # type: ignore[operator]


@pytest.mark.usefixtures("fixed_presets")
@pytest.mark.parametrize(("line", "expected"), OFF.items())
def test_each_part_of_a_recipe_can_be_left_out(line: str, expected: Mapping[str, Any]) -> None:
    (whole,), (phase,) = phases(full('recipe = "modern"')), phases(full(f'recipe = "modern"\n{line}'))
    changed = {name for name in Phase.__slots__ if getattr(phase, name) != getattr(whole, name)}
    assert changed == expected.keys()
    assert {name: getattr(phase, name) for name in expected} == expected


def test_second_phase_can_be_left_out() -> None:
    assert len(phases(full('recipe = "paper"\nfinetune = false'))) == 1
    assert len(phases(full("pretrain = { epochs = 1 }\nfinetune = false"))) == 1
    assert full("pretrain = { epochs = 1 }\nfinetune = false") == full("pretrain = { epochs = 1 }")


def test_parameter_of_the_space_takes_the_place_of_the_key() -> None:
    keys = 'recipe = "modern"\ndropout = 0.2'
    (phase,) = phases(full(keys, "nesterov = [true, false]\nlabel_smoothing = 0\ndropout = [0.1, 0.3]"))
    assert phase.params == {"schedule": "one-cycle"}
    (phase,) = phases(full(keys, "schedule = 'cosine'"))
    assert "schedule" not in phase.params


def test_both_phases_have_the_loss_and_the_dropout_and_the_first_has_the_rest() -> None:
    keys = (
        'pretrain = { epochs = 1 }\nfinetune = { epochs = 1 }\nschedule = "cosine"\nwarmup = 0.1\n'
        "label_smoothing = 0.1\ndropout = 0\nnesterov = true"
    )
    first, second = phases(full(keys))
    assert second.params == {"label_smoothing": 0.1, "dropout": 0.0}
    assert first.params == {"schedule": "cosine", "warmup": 0.1, "nesterov": True, **second.params}
    assert (first.patience, second.patience) == (None, 5)
    assert phases(full(keys), "adam")[0].optimizer == "adam"


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_a_rate_that_does_not_fall_to_its_end_is_stopped_early(schedule: str) -> None:
    (phase,) = phases(full(f'pretrain = {{ epochs = 9 }}\nschedule = "{schedule}"'))
    assert phase.patience == 5


def test_early_stopping_can_be_left_out() -> None:
    first, second = phases(full('recipe = "paper"\npretrain.patience = false\nfinetune.patience = false'))
    assert (first.patience, second.patience) == (None, None)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_stored_and_shown_is_read_back(recipe: str) -> None:
    keys = "finetune = false\nema = false\naugment = false\nclip = false\ndropout = false"
    for spec in (full(f'recipe = "{recipe}"'), full(f'recipe = "{recipe}"\n{keys}')):
        for again in (StudySpec.parse(spec.to_json()), StudySpec.from_stored(spec.to_stored(), "stored")):
            assert (again, again.identity()) == (spec, spec.identity())
            assert again.budget("full") == spec.budget("full")


def test_stored_study_keeps_the_values_of_a_recipe_that_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = ('recipe = "modern"', 'recipe = "modern"\npretrain.epochs = 7\naugment = { shift = 0.2 }')
    before = [full(keys) for keys in files]
    later = {**RECIPES["modern"], "ema": 0.5, "dropout": 0.4, "finetune": {"epochs": 3}}
    later |= {"pretrain": {"epochs": 99}, "augment": {"shear": 9.0}}
    monkeypatch.setattr(recipes, "RECIPES", {**RECIPES, "modern": later})
    for keys, stored in zip(files, before, strict=True):
        read = StudySpec.from_stored(stored.to_stored(), "stored")
        assert (read, read.budget("full")) == (stored, stored.budget("full"))
        assert full(keys) != stored
        assert full(keys).keeping(read) == stored
        assert full(f"{keys}\nema = 0.25").keeping(read).full.ema == 0.25
    assert full(files[0].replace("modern", "paper")).keeping(before[0]) == full('recipe = "paper"')


def test_key_that_a_file_without_a_recipe_leaves_out_has_its_default() -> None:
    stored = full("pretrain = { epochs = 2 }\nclip = 3")
    assert full("pretrain = { epochs = 2 }").keeping(stored).full.clip == 1.0


@pytest.mark.parametrize("value", ["5", '"modern"', "[1]"])
def test_full_that_is_no_table_is_refused(value: str) -> None:
    text = TEXT.replace("[full]\n" + PHASES, "").replace("seed = 1", f"seed = 1\nfull = {value}")
    with pytest.raises(SpecError, match=r"full = .*: must be a table"):
        load(text)
