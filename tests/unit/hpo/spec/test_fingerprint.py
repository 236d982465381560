import json
from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from support.study_file import TEXT, load

from hpo.spec.study_spec import EXTENDABLE, StudySpec
from hpo.values.parameters import PARAMETERS

# For each key of a study file a value other than the value in `WHOLE`.
OTHER: dict[str, object] = {
    "name": "other",
    "seed": 2,
    "model.name": "alexnet",
    "data.name": "mnist",
    "data.mini": 0.2,
    "data.validation": 0.3,
    "data.mean": 0.2,
    "data.std": 0.2,
    "space.lr": [0.01, 0.001],  # the order decides the plan
    "space.batch_size": [16, 64],
    "space.momentum": {"low": 0, "high": 0.9, "step": 0.1},
    "space.weight_decay": {"low": 1e-4, "high": 1e-2},
    "sampler.name": "random",
    "sampler.startup": 3,
    "pruner.name": "none",
    "pruner.startup_trials": 3,
    "pruner.warmup_epochs": 3,
    "pruner.min_epochs": 2,
    "pruner.reduction": 4,
    "search.trials": 13,
    "search.epochs": 4,
    "stop.target": 0.3,
    "stop.patience": 6,
    "stop.epochs": 50,
    "stop.device_hours": 1.5,
    "engine.compile": "never",
    "engine.precision": "bfloat16",
    "full.pretrain.epochs": 9,
    "full.pretrain.patience": 9,
    "full.finetune.epochs": 9,
    "full.finetune.patience": 9,
    "full.finetune.lr": 0.5,
    "full.clip": 2.0,
    "full.augment.rotation": 20,
    "full.augment.shift": 0.2,
    "full.augment.scale": [0.9, 1.2],
    "full.augment.shear": 4,
    "promotion.top": 3,
    "promotion.seeds": 3,
}
WHOLE = load(
    TEXT.replace("mini = 0.5", "mini = 0.5\nmean = 0.1\nstd = 0.3")
    .replace("[full]", "[stop]\ntarget = 0.25\npatience = 5\nepochs = 40\ndevice_hours = 1\n[full]")
    .replace("weight_decay = 0", "weight_decay = { low = 1e-4, high = 1e-2, log = true }")
).to_json()


def changed(key: str, value: object) -> StudySpec:
    raw = json.loads(json.dumps(WHOLE))
    *sections, last = key.split(".")
    table = raw
    for section in sections:
        table = table[section]
    assert table[last] != value
    table[last] = value
    return StudySpec.parse(raw, "test")


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a study file."""
    for name, field in section.model_fields.items():
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        nested = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if prefix + name == "space":
            yield from (f"space.{parameter}" for parameter in PARAMETERS)
        elif nested:
            yield from keys(nested[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def test_other_values_cover_every_key() -> None:
    assert OTHER.keys() == set(keys(StudySpec))


@pytest.mark.parametrize("key", OTHER)
def test_fingerprint_covers_every_key_that_must_not_change(key: str) -> None:
    before, after = StudySpec.parse(WHOLE, "test"), changed(key, OTHER[key])
    assert before != after
    may_change = key in EXTENDABLE or key.startswith(("stop.", "engine."))
    assert (before.fingerprint == after.fingerprint) == may_change
    differing = {k for k in before.identity() if before.identity()[k] != after.identity().get(k)}
    assert differing == (set() if may_change else {key})


def test_keys_that_may_grow() -> None:
    assert {"search.trials", "promotion.top", "promotion.seeds"} == EXTENDABLE


@pytest.mark.parametrize("section", ["augment", "mean"])
def test_leaving_out_a_key_changes_the_fingerprint(section: str) -> None:
    raw = json.loads(json.dumps(WHOLE))
    for key in ("augment",) if section == "augment" else ("mean", "std"):
        del raw["full" if section == "augment" else "data"][key]
    assert StudySpec.parse(raw, "test").fingerprint != StudySpec.parse(WHOLE, "test").fingerprint


def test_fingerprint_depends_on_values_and_not_on_spelling() -> None:
    spellings = [
        ("lr = [1e-3, 1e-2]", "lr = [0.001, 0.01]"),
        ("weight_decay = 0", "weight_decay = [0.0]"),
        ("high = 0.9 }", "high = 0.9, log = false }"),
        ("rotation = 10", "rotation = 10.0, shift = 0"),
        ("mini = 0.5", "mini = 0.50\nvalidation = 0.2"),
        ("[pruner]", "startup = 10\n[pruner]"),
    ]
    for right, other in spellings:
        assert TEXT.count(right) == 1
        assert load(TEXT.replace(right, other)).fingerprint == load().fingerprint
    steps = [
        TEXT.replace("lr = [1e-3, 1e-2]", f"lr = {{ low = 1, high = 3, step = {s} }}") for s in ("1", "1.0")
    ]
    assert load(steps[0]).fingerprint == load(steps[1]).fingerprint
