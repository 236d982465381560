import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import Field, create_model
from support.study_file import FUNCTION_TEXT, TEXT, load

from hpo.search.pruners.registry import PRUNERS
from hpo.search.pruners.rungs import RungSection
from hpo.search.samplers.registry import SAMPLERS
from hpo.spec.fingerprint import EXTENDABLE
from hpo.spec.sections import DataSection
from hpo.spec.study_spec import StudySpec
from hpo.values.parameters import PARAMETERS
from hpo.values.section import Section, sections_of

# For each key of a study file a value other than the value in `WHOLE`.
OTHER: dict[str, object] = {
    "name": "other",
    "seed": 2,
    "model.name": "alexnet",
    "model.loss": "own:huber",
    "model.metrics": {"worst": "own:worst"},
    "data.name": "mnist",
    "data.mini": 0.2,
    "data.validation": 0.3,
    "data.mean": 0.2,
    "data.std": 0.2,
    "space.lr": [0.01, 0.001],  # the order decides the plan
    "space.batch_size": [16, 64],
    "space.momentum": {"low": 0, "high": 0.9, "step": 0.1},
    "space.weight_decay": {"low": 1e-4, "high": 1e-2},
    "space.optimizer": ["sgd", "adamw"],
    "space.label_smoothing": [0.0, 0.1],
    "space.nesterov": [True],
    "space.beta1": [0.8],
    "space.beta2": [0.99],
    "space.schedule": ["cosine"],
    "space.warmup": [0.1],
    "space.class_weights": ["balanced"],
    "space.dropout": [0.3],
    "space.clip": [2.0],
    "space.rotation": [20.0],
    "space.shift": [0.2],
    "space.scaling": [0.2],
    "space.shear": [3.0],
    "sampler.name": "random",
    "sampler.startup": 3,
    "sampler.popsize": 9,
    "sampler.use_separable_cma": True,
    "sampler.lr_adapt": True,
    "sampler.consider_pruned_trials": False,
    "sampler.qmc_type": "halton",
    "sampler.scramble": True,
    "sampler.deterministic_objective": True,
    "sampler.population_size": 20,
    "sampler.mutation_prob": 0.2,
    "sampler.crossover_prob": 0.8,
    "sampler.swapping_prob": 0.4,
    "pruner.name": "none",
    "pruner.startup_trials": 3,
    "pruner.warmup_epochs": 2,
    "pruner.min_epochs": 2,
    "pruner.reduction": 4,
    "search.trials": 13,
    "search.epochs": 4,
    "stop.target": 0.3,
    "stop.patience": 6,
    "stop.epochs": 50,
    "stop.device_hours": 1.5,
    "export.model": "ensemble",
    "export.shifts": 1,
    "engine.compile": "never",
    "engine.precision": "bfloat16",
    "limits.epoch_minutes": 30.0,
    "full.pretrain.epochs": 9,
    "full.pretrain.patience": 9,
    "full.finetune.epochs": 9,
    "full.finetune.patience": 9,
    "full.finetune.lr": 0.5,
    "full.recipe": "paper",
    "full.schedule": "cosine",
    "full.warmup": 0.1,
    "full.label_smoothing": 0.1,
    "full.dropout": 0.2,
    "full.nesterov": True,
    "full.ema": 0.99,
    "full.clip": 2.0,
    "full.augment.rotation": 20,
    "full.augment.shift": 0.2,
    "full.augment.scale": [0.9, 1.2],
    "full.augment.shear": 4,
    "full.refit": True,
    "objective.metric": "accuracy",
    "baseline.lr": 0.001,
    "promotion.metric": "accuracy",
    "promotion.top": 3,
    "promotion.seeds": 3,
}
UNSET: dict[str, dict[str, object]] = {
    "model.loss": {"loss": "own:squared"},
    "model.metrics": {"metrics": {"worst": "own:best"}},
    "full.recipe": {"recipe": "modern", "ema": 0.5},  # which leaves nothing to the recipe
    "full.dropout": {"dropout": 0.5},
    "full.ema": {"ema": 0.5},
    "promotion.metric": {"metric": "loss"},
}
"""Keys that are unset in `WHOLE`, with a value."""

OF_FUNCTIONS: dict[str, object] = {
    "train.function": "train:fit_more",
    "objective.direction": "minimize",
    "full.epochs": 6,
    "promotion.direction": "maximize",
    "resources.gpus": 0.5,
    "resources.cpus": 2,
    "resources.memory": "8 GB",
}
"""The same for the keys of studies of a training function alone."""

FUNCTION = load(
    FUNCTION_TEXT.replace("top = 2", 'top = 2\nmetric = "loss"\ndirection = "minimize"')
    + '[resources]\ngpus = 1\ncpus = 1\nmemory = "4 GB"\n'
).to_json()

WHOLE = load(
    TEXT.replace("mini = 0.5", "mini = 0.5\nmean = 0.1\nstd = 0.3")
    .replace("top = 2", "top = 2\nseeds = 2")
    .replace("[full]", "[stop]\ntarget = 0.25\npatience = 5\nepochs = 40\ndevice_hours = 1\n[full]")
    .replace("[full]", "[limits]\nepoch_minutes = 5\n[full]")
    .replace("weight_decay = 0", "weight_decay = { low = 1e-4, high = 1e-2, log = true }")
).to_json()


def with_key(key: str) -> dict[str, Any]:
    """Return a study file that has this key: that of `WHOLE`, with another pruner or sampler if it takes
    one."""
    raw: dict[str, Any] = json.loads(json.dumps(FUNCTION if key in OF_FUNCTIONS else WHOLE))
    section, _, name = key.rpartition(".")
    if section == "pruner" and name not in raw["pruner"]:
        pruner = next(pruner for pruner, keys in PRUNERS.items() if name in keys.model_fields)
        raw["pruner"] = PRUNERS[pruner]().model_dump()
    if section == "sampler" and name not in raw["sampler"]:
        sampler = next(sampler for sampler, keys in SAMPLERS.items() if name in keys.model_fields)
        raw["sampler"] = SAMPLERS[sampler]().model_dump()
        if raw["sampler"][name] is None:
            raw["sampler"][name] = {"popsize": 8, "mutation_prob": 0.1}[name]
    if key in UNSET:
        raw[section] |= UNSET[key]
    if section == "baseline":
        raw[section] = {"lr": 0.01, "batch_size": 32, "momentum": 0.9, "weight_decay": 1e-3}
    if section == "space":
        parameter = PARAMETERS[name]
        raw["space"].setdefault(name, 0.5 if parameter.default is None else parameter.default)
        if (when := parameter.when) is not None:
            values = dict.fromkeys([PARAMETERS[when.parent].default, *when.values])
            raw["space"].setdefault(when.parent, [*values])
    return raw


def changed(key: str, value: object) -> StudySpec:
    raw = with_key(key)
    *sections, last = key.split(".")
    table = raw
    for section in sections:
        table = table[section]
    assert table[last] != value
    if last == "name" and sections in (["sampler"], ["pruner"]):
        table.clear()  # the other keys are those of another name
    table[last] = value
    return StudySpec.parse(raw, "test")


def keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a study file."""
    for name, field in section.model_fields.items():
        if prefix + name == "space":
            yield from (f"space.{parameter}" for parameter in PARAMETERS)
        elif name == "baseline":
            yield "baseline.lr"  # for all parameters of the space
        elif nested := sections_of(field):
            for inner in nested.values():
                yield from keys(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_other_values_cover_every_key() -> None:
    assert OTHER.keys() | OF_FUNCTIONS.keys() == set(keys(StudySpec))


@pytest.mark.parametrize("key", [*OTHER, *OF_FUNCTIONS])
def test_fingerprint_covers_every_key_that_must_not_change(key: str) -> None:
    before, after = StudySpec.parse(with_key(key), "test"), changed(key, {**OTHER, **OF_FUNCTIONS}[key])
    assert before != after
    may_change = key in EXTENDABLE or key.startswith(
        ("stop.", "export.", "engine.", "limits.", "resources.", "full.recipe", "full.refit")
    )
    assert (before.fingerprint == after.fingerprint) == may_change
    differing = {k for k in before.identity() if before.identity()[k] != after.identity().get(k)}
    if key == "pruner.name":
        differing -= {f"pruner.{name}" for name in RungSection.model_fields if name != "name"}
    assert differing == (set() if may_change else {"model.metrics.worst" if key == "model.metrics" else key})


def test_keys_that_may_grow() -> None:
    assert {"search.trials", "promotion.top", "promotion.seeds"} == EXTENDABLE


def test_a_recipe_has_the_fingerprint_of_the_values_that_it_presets() -> None:
    keys = "pretrain = { epochs = 2 }\nfinetune = { epochs = 1 }\naugment = { rotation = 10 }\n"
    short = load(TEXT.replace(keys, 'recipe = "paper"\n'))
    spelled = load(
        TEXT.replace(
            keys,
            "pretrain = { epochs = 30, patience = 3 }\nfinetune = { epochs = 15, patience = 3 }\n"
            "augment = { rotation = 15, shift = 0.1, scale = [0.9, 1.1], shear = 3 }\n",
        )
    )
    assert short.fingerprint == spelled.fingerprint
    assert short.identity() == spelled.identity()


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


def test_new_key_with_a_default_leaves_the_fingerprint() -> None:
    data = create_model("Data", __base__=DataSection, channels=(int, Field(default=1)))
    files = create_model("Files", __base__=Section, place=(str, Field(default="here")))
    later = create_model("Later", __base__=StudySpec, data=(data, ...), files=(files, files()))
    assert later.parse(WHOLE, "test").fingerprint == StudySpec.parse(WHOLE, "test").fingerprint
    other = later.parse({**WHOLE, "files": {"place": "there"}}, "test")
    assert other.fingerprint != StudySpec.parse(WHOLE, "test").fingerprint


def test_fingerprints_stay_the_same_between_versions() -> None:
    assert load().fingerprint == "949d16c5a37a3956"
    assert StudySpec.parse(WHOLE, "test").fingerprint == "bd79b4c4d4438f7e"


def test_direction_of_an_own_metric_is_part_of_the_study() -> None:
    own = {**WHOLE, "model": {"name": "lenet", "metrics": {"worst": "own:worst"}}}
    specs = [
        StudySpec.parse({**own, "objective": {"metric": "worst", "direction": direction}}, "test")
        for direction in ("minimize", "maximize")
    ]
    assert specs[0].fingerprint != specs[1].fingerprint
    assert [spec.make_objective().direction for spec in specs] == ["minimize", "maximize"]
    assert [spec.make_objective().key for spec in specs] == ["validation_worst"] * 2


def test_empty_table_of_metrics_is_no_table() -> None:
    raw = {**WHOLE, "model": {"name": "lenet", "metrics": {}}}
    assert StudySpec.parse(raw, "test").identity() == StudySpec.parse(WHOLE, "test").identity()


def test_empty_section_is_not_a_section_left_out() -> None:
    rotated = "augment = { rotation = 10 }"
    empty, none = load(TEXT.replace(rotated, "augment = {}")), load(TEXT.replace(rotated, ""))
    assert empty.fingerprint != none.fingerprint


def test_natural_direction_may_be_spelled_out() -> None:
    raw = json.loads(json.dumps(WHOLE))
    raw["objective"] = {"metric": "accuracy"}
    spelled = {**raw, "objective": {"metric": "accuracy", "direction": "maximize"}}
    assert StudySpec.parse(raw) == StudySpec.parse(spelled)


def test_objective_of_a_stored_study_is_the_loss() -> None:
    stored = load().to_stored()
    del stored["objective"]
    study = StudySpec.from_stored(stored, "stored")
    assert study == load()
    assert (study.identity(), study.fingerprint) == (load().identity(), load().fingerprint)
