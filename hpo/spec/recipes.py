"""The recipes of full training: what each presets in the section `[full]` of a study file."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from hpo.values.section import Section

RecipeName = Literal["paper", "modern"]

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "pretrain": {"epochs": 30, "patience": 3},
        "finetune": {"epochs": 15, "patience": 3, "lr": 1e-3},
        "clip": 1.0,
        "augment": {"rotation": 15.0, "shift": 0.1, "scale": [0.9, 1.1], "shear": 3.0},
    },
    "modern": {
        "pretrain": {"epochs": 20},
        "schedule": "one-cycle",
        "label_smoothing": 0.05,
        "nesterov": True,
        "clip": 1.0,
        "augment": {"rotation": 10.0, "shift": 0.07, "scale": [0.9, 1.1], "shear": 3.0},
    },
}
"""The values of each recipe by key of `[full]`. `paper` is the full training of the published study."""

ANNEALING = ("cosine", "one-cycle")
"""The schedules whose last steps matter: early stopping would leave them out."""

S = TypeVar("S", bound=Section)


def with_recipe(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a study file with the values that the recipe of `[full]` presets.

    Keys of the file win, key by key also in the tables of `[full]`. `false` leaves out a key of the recipe,
    and counts as left out where there is nothing to leave out.
    """
    full = raw.get("full")
    if not isinstance(full, Mapping):
        return dict(raw)
    preset: Mapping[str, Any] = {}
    if (name := full.get("recipe")) is not None:
        # An unknown recipe is refused. With any preset, that is the only mistake that is reported.
        preset = RECIPES.get(str(name), RECIPES["paper"])
    merged = {**preset, **full}
    for key, value in preset.items():
        if isinstance(value, Mapping) and isinstance(merged[key], Mapping):
            merged[key] = {**value, **merged[key]}
    for key in ("finetune", "dropout", "ema", "augment"):
        if merged.get(key) is False and key not in preset:
            del merged[key]
    first = merged.get("pretrain")
    if merged.get("schedule") in ANNEALING and isinstance(first, Mapping):
        merged["pretrain"] = {"patience": False, **first}
    return {**raw, "full": merged}


def mark_given(section: Section, given: object) -> None:
    """Count the keys of a section as unset that the file, with the table `given`, leaves out."""
    table = given if isinstance(given, Mapping) else {}
    for key in tuple(section.model_fields_set):
        if key not in table:
            section.model_fields_set.discard(key)
        elif isinstance(value := getattr(section, key), Section):
            mark_given(value, table[key])


def keeping(section: S, stored: S) -> S:
    """Return the section with the stored values of the keys that its file leaves out."""
    values = {}
    for key in type(section).model_fields:
        own, kept = getattr(section, key), getattr(stored, key)
        if key not in section.model_fields_set:
            values[key] = kept
        elif isinstance(own, Section) and isinstance(kept, type(own)):
            values[key] = keeping(own, kept)
    return section.model_copy(update=values)
