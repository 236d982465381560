import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from hpo import models
from hpo.errors import SpecError
from hpo.search.pruners.section import PrunerSection
from hpo.search.samplers.points import plan
from hpo.search.samplers.section import SamplerSection
from hpo.spec.study_spec import EXTENDABLE, StudySpec
from hpo.values.budget import Augmentation, Budget, Phase
from hpo.values.parameters import PARAMETERS

STUDIES = sorted((Path(__file__).parents[4] / "studies").glob("*.toml"))
PAPER = next(path for path in STUDIES if path.stem == "lenet-paper")

TEXT = """
seed = 1
[model]
name = "lenet"
[data]
name = "digits"
mini = 0.5
[space]
lr = [1e-3, 1e-2]
batch_size = [16, 32]
momentum = { low = 0, high = 0.9 }
weight_decay = 0
[sampler]
name = "tpe"
[pruner]
name = "asha"
[search]
trials = 12
epochs = 3
[full]
pretrain = { epochs = 2 }
finetune = { epochs = 1 }
augment = { rotation = 10 }
[promotion]
top = 2
"""

LONG = "x" * 64
NAME_RULE = "must be at most 63 of a-z, 0-9, '-', '_', '.' and begin with a-z or 0-9"

# Right, wrong, and what is said about it.
MISTAKES = {
    # the name and the seed
    "upper case": (
        "seed = 1",
        'name = "LeNet"',
        f'name = "LeNet": {NAME_RULE}',
    ),
    "dot first": (
        "seed = 1",
        'name = ".x"',
        f'name = ".x": {NAME_RULE}',
    ),
    "too long": (
        "seed = 1",
        f'name = "{LONG}"',
        f'name = "{LONG}": {NAME_RULE}',
    ),
    "a full training's name": (
        "seed = 1",
        'name = "x-full"',
        """name = "x-full": must not end in '-full': that is the name of a study's full training""",
    ),
    "name is a number": ("seed = 1", "name = 7", "name = 7: must be text in quotes"),
    "negative seed": ("seed = 1", "seed = -1", "seed = -1: must be at least 0"),
    "large seed": ("seed = 1", "seed = 4294967296", "seed = 4294967296: must be below 4294967296"),
    "seed is text": ("seed = 1", 'seed = "1"', 'seed = "1": must be a whole number'),
    "seed is a float": ("seed = 1", "seed = 1.0", "seed = 1.0: must be a whole number"),
    "seed is a truth value": ("seed = 1", "seed = true", "seed = true: must be a whole number"),
    "seed is a date": ("seed = 1", "seed = 2026-01-02", 'seed = "2026-01-02": must be a whole number'),
    "seed is a table": ("seed = 1", "seed = { n = 1 }", 'seed = {"n": 1}: must be a whole number'),
    # sections
    "section misspelt": ("[search]", "[serch]", "serch: unknown key; did you mean 'search'?"),
    "section unknown": (
        "[search]",
        "[gpu]\ncount = 1\n[search]",
        "gpu: unknown key; known: name, seed, model, data, space, sampler, pruner, search, stop, full, "
        "promotion, engine",
    ),
    "unknown engine": (
        "[full]",
        '[engine]\ncompile = "fast"\n[full]',
        """engine.compile = "fast": must be one of 'auto', 'always' or 'never'""",
    ),
    "unknown precision": (
        "[full]",
        '[engine]\nprecision = "half"\n[full]',
        """engine.precision = "half": must be one of 'auto', 'float32' or 'bfloat16'""",
    ),
    "section is a list": (
        "[promotion]\ntop = 2",
        "[[promotion]]",
        "promotion = [{}]: must be a table",
    ),
    # model and data
    "model unknown": (
        '"lenet"',
        '"lenett"',
        "model.name = \"lenett\": unknown model 'lenett': did you mean lenet or alexnet or resnet? "
        f"it must be one of {', '.join(models.names())}, or a class of your own as package.module:Class",
    ),
    "model is a number": ('"lenet"', "5", "model.name = 5: must be text in quotes"),
    "data unknown": (
        '"digits"',
        '"digit"',
        "data.name = \"digit\": no data set 'digit': digits, or your own as package.module:function",
    ),
    "mini is zero": ("mini = 0.5", "mini = 0.0", "data.mini = 0.0: must be above 0.0"),
    "mini is too much": ("mini = 0.5", "mini = 0.6", "data.mini = 0.6: must be at most 0.5"),
    "mini is text": ("mini = 0.5", 'mini = "half"', 'data.mini = "half": must be a number'),
    "mini is nan": ("mini = 0.5", "mini = nan", "data.mini = NaN: must be a finite number"),
    "mini is infinite": ("mini = 0.5", "mini = inf", "data.mini = Infinity: must be a finite number"),
    "validation is too much": (
        "mini = 0.5",
        "validation = 0.9",
        "data.validation = 0.9: must be at most 0.5",
    ),
    "mean of unscaled pixels": ("mini = 0.5", "mean = 44.3", "data.mean = 44.3: must be at most 1.0"),
    "std is zero": ("mini = 0.5", "std = 0", "data.std = 0: must be above 0.0"),
    "mean alone": ("mini = 0.5", "mean = 0.1", "data.std: must be given where the other is"),
    "std alone": ("mini = 0.5", "std = 0.1", "data.mean: must be given where the other is"),
    "asha never prunes": (
        'name = "asha"',
        'name = "asha"\nmin_epochs = 3',
        "pruner.min_epochs: 3 is not below search.epochs (3), so nothing would be pruned",
    ),
    "more promotions than trials": (
        "trials = 12",
        "trials = 1",
        "promotion.top: 2 is more than search.trials (1)",
    ),
    "too many trials": (
        "trials = 12",
        "trials = 1000001",
        "search.trials = 1000001: must be at most 1000000",
    ),
    # the space
    "space is a list": (
        "[space]",
        "[[space]]",
        'space = [{"lr": [0.001, 0.01], "batch_size": [16, 32], '
        '"momentum": {"low": 0, "high": 0.9}, "weight_decay": 0}]: must be a table',
    ),
    "parameter missing": (
        "weight_decay = 0\n",
        "",
        "space.weight_decay: is missing; a parameter that should not vary has one value",
    ),
    "parameter misspelt": (
        "weight_decay = 0",
        "weightdecay = 0",
        "space.weightdecay: unknown key; did you mean 'weight_decay'?",
    ),
    "no choice": ("lr = [1e-3, 1e-2]", "lr = []", "space.lr: needs at least one choice"),
    "choice twice": ("lr = [1e-3, 1e-2]", "lr = [0.1, 1e-1]", "space.lr: names 0.1 twice"),
    "rate is zero": ("lr = [1e-3, 1e-2]", "lr = [0, 1e-2]", "space.lr: 0 is not a number above 0"),
    "batch size is a float": (
        "[16, 32]",
        "[16, 32.0]",
        "space.batch_size: 32.0 is not a whole number of at least 2",
    ),
    "batch size is one": ("[16, 32]", "1", "space.batch_size: 1 is not a whole number of at least 2"),
    "momentum is one": ("high = 0.9", "high = 1.0", "space.momentum: 1.0 is not a number from 0 to below 1"),
    "range without high": ("high = 0.9", "log = false", "space.momentum: a range needs low and high"),
    "range misspelt": (
        "high = 0.9",
        "high = 0.9, steps = 0.1",
        "space.momentum: unknown key 'steps'; a range has low, high, log, step",
    ),
    "range reversed": (
        "low = 0, high = 0.9",
        "low = 0.9, high = 0.1",
        "space.momentum: low (0.9) must be below high (0.1)",
    ),
    "logarithm of zero": (
        "high = 0.9",
        "high = 0.9, log = true",
        "space.momentum: log needs a low above 0 and no step",
    ),
    "step that misses high": (
        "high = 0.9",
        "high = 0.9, step = 0.2",
        "space.momentum: step (0.2) must lead from low (0.0) to high (0.9) exactly",
    ),
    # sampler and pruner
    "sampler unknown": (
        '"tpe"',
        '"grid"',
        """sampler.name = "grid": must be one of 'random', 'tpe' or 'gp'""",
    ),
    "no startup": ('"tpe"', '"tpe"\nstartup = 0', "sampler.startup = 0: must be at least 1"),
    "pause never pauses": (
        'name = "asha"',
        'name = "pause"\nmin_epochs = 3',
        "pruner.min_epochs: 3 is not below search.epochs (3), so nothing would be pruned",
    ),
    "pruner unknown": (
        '"asha"',
        '"sha"',
        """pruner.name = "sha": must be one of 'none', 'median', 'asha', 'hyperband' or 'pause'""",
    ),
    "reduction to all": ('"asha"', '"asha"\nreduction = 1', "pruner.reduction = 1: must be at least 2"),
    "negative warm-up": (
        '"asha"',
        '"asha"\nwarmup_epochs = -1',
        "pruner.warmup_epochs = -1: must be at least 0",
    ),
    # stopping
    "target is infinite": (
        "[full]",
        "[stop]\ntarget = inf\n[full]",
        "stop.target = Infinity: must be a finite number",
    ),
    "target is text": ("[full]", '[stop]\ntarget = "low"\n[full]', 'stop.target = "low": must be a number'),
    "no patience in the search": (
        "[full]",
        "[stop]\npatience = 0\n[full]",
        "stop.patience = 0: must be at least 1",
    ),
    "half a trial": (
        "[full]",
        "[stop]\npatience = 2.5\n[full]",
        "stop.patience = 2.5: must be a whole number",
    ),
    "no epochs to stop at": ("[full]", "[stop]\nepochs = 0\n[full]", "stop.epochs = 0: must be at least 1"),
    "no hours": ("[full]", "[stop]\ndevice_hours = 0\n[full]", "stop.device_hours = 0: must be above 0.0"),
    "hours misspelt": (
        "[full]",
        "[stop]\ndevice_hour = 1\n[full]",
        "stop.device_hour: unknown key; did you mean 'device_hours'?",
    ),
    # budgets
    "no trials": ("trials = 12", "trials = 0", "search.trials = 0: must be at least 1"),
    "trials are a float": ("trials = 12", "trials = 12.5", "search.trials = 12.5: must be a whole number"),
    "trials misspelt": ("trials = 12", "trails = 12", "search.trails: unknown key; did you mean 'trials'?"),
    "epochs missing": ("epochs = 3\n", "", "search.epochs: is missing"),
    "phase missing": ("finetune = { epochs = 1 }\n", "", "full.finetune: is missing"),
    "phase is a number": ("{ epochs = 2 }", "2", "full.pretrain = 2: must be a table"),
    "rate of pretraining": (
        "{ epochs = 2 }",
        "{ epochs = 2, lr = 1 }",
        "full.pretrain.lr: unknown key; known: epochs, patience",
    ),
    "no patience": (
        "{ epochs = 2 }",
        "{ epochs = 2, patience = 0 }",
        "full.pretrain.patience = 0: must be at least 1",
    ),
    "rate of fine-tuning": (
        "{ epochs = 1 }",
        "{ epochs = 1, lr = 0 }",
        "full.finetune.lr = 0: must be above 0.0",
    ),
    "no clip": ("[full]", "[full]\nclip = 0", "full.clip = 0: must be above 0.0"),
    "rotation": ("rotation = 10", "rotation = 181", "full.augment.rotation = 181: must be at most 180.0"),
    "augment misspelt": (
        "rotation = 10",
        "rotate = 10",
        "full.augment.rotate: unknown key; did you mean 'rotation'?",
    ),
    "shift": ("rotation = 10", "shift = 1.0", "full.augment.shift = 1.0: must be below 1.0"),
    "scale reversed": (
        "rotation = 10",
        "scale = [1.1, 0.9]",
        "full.augment.scale = [1.1, 0.9]: must be [smallest, largest] with 0 < smallest <= largest",
    ),
    "scale of zero": (
        "rotation = 10",
        "scale = [0, 1]",
        "full.augment.scale = [0, 1]: must be [smallest, largest] with 0 < smallest <= largest",
    ),
    "scale of one": ("rotation = 10", "scale = 1.1", "full.augment.scale = 1.1: must be a list"),
    "scale of three": (
        "rotation = 10",
        "scale = [1, 1, 1]",
        "full.augment.scale = [1, 1, 1]: must be a list of two numbers",
    ),
    "scale is text": (
        "rotation = 10",
        'scale = ["small", 1]',
        'full.augment.scale.0 = "small": must be a number',
    ),
    "promotion of none": ("top = 2", "top = 0", "promotion.top = 0: must be at least 1"),
    "promotion is text": ("top = 2", 'seeds = "all"', 'promotion.seeds = "all": must be a whole number'),
}


def lines(file: Path, text: str | bytes) -> list[str]:
    """What `load` says about a study file with this text."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError) as caught:
        StudySpec.load(file)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("right", "wrong", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(tmp_path: Path, right: str, wrong: str, line: str) -> None:
    assert TEXT.count(right) == 1
    file = tmp_path / "bad.toml"
    assert lines(file, TEXT.replace(right, wrong)) == [f"{file}: {line}"]


def test_every_mistake_in_a_file_has_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    text = """
    [model]
    name = "lenet"
    size = 3
    [data]
    mini = 2
    [space]
    lr = { low = 1, high = 0.1 }
    batch_size = 0
    moment = 0.9
    [serch]
    trials = 3
    [full]
    pretrain = { epochs = 0 }
    clip = -1
    """
    assert lines(file, text) == [
        f"{file}: {line}"
        for line in [
            "model.size: unknown key; known: name",
            "data.name: is missing",
            "data.mini = 2: must be at most 0.5",
            "space.moment: unknown key; did you mean 'momentum'?",
            "space.lr: low (1.0) must be below high (0.1)",
            "space.batch_size: 0 is not a whole number of at least 2",
            "space.weight_decay: is missing; a parameter that should not vary has one value",
            "full.pretrain.epochs = 0: must be at least 1",
            "full.finetune: is missing",
            "full.clip = -1: must be above 0.0",
            "serch: unknown key; did you mean 'search'?",
        ]
    ]


def test_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    sections = ["model", "data", "space", "search", "full"]
    assert lines(file, "") == [f"{file}: {section}: is missing" for section in sections]


def test_a_name_that_comes_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "My Study.toml"
    assert lines(file, TEXT) == [f'{file}: name = "My Study": {NAME_RULE}']


def test_not_toml(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    assert lines(file, "seed = = 1") == [f"{file}: not valid TOML: Invalid value (at line 1, column 8)"]


def test_not_text(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    assert lines(file, b"# caf\xe9") == [f"{file}: not a text file in UTF-8 (byte 5)"]


def test_no_file(tmp_path: Path) -> None:
    for file, reason in [
        (tmp_path / "none.toml", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ]:
        with pytest.raises(SpecError) as caught:
            StudySpec.load(file)
        assert str(caught.value) == f"{file}: cannot read the study file: {reason}"


def load(text: str = TEXT) -> StudySpec:
    return StudySpec.parse({"name": "small", **tomllib.loads(text)}, source="test")


def test_a_study_is_called_after_its_file_unless_it_has_a_name(tmp_path: Path) -> None:
    file = tmp_path / "small-2.toml"
    file.write_text(TEXT)
    assert StudySpec.load(file).name == "small-2"
    file.write_text('name = "other"\n' + TEXT)
    assert StudySpec.load(file).name == "other"
    assert StudySpec.load(file).full_name == "other-full"


def test_a_spec_is_frozen() -> None:
    spec = load()
    with pytest.raises(ValidationError, match="frozen"):
        spec.seed = 2  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        spec.search.trials = 2  # type: ignore[misc]


@pytest.mark.parametrize("name", ["mine.networks:Net", "mine:Net"])
def test_a_model_of_ones_own_is_named_and_not_imported(name: str) -> None:
    assert load(TEXT.replace("lenet", name)).model.name == name


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_studies_of_the_project_parse(file: Path) -> None:
    spec = StudySpec.load(file)
    assert spec.name == file.stem
    if spec.name in models.names():
        assert (spec.model.name, spec.data.name) == (file.stem, "emnist-byclass")
        # The paper's grid, normalisation and cost, searched as the service does it by default.
        assert (spec.space.cells, spec.search.epochs, spec.stop.epochs) == (144, 5, 28 * 5)
        assert (spec.sampler, spec.pruner) == (SamplerSection(), PrunerSection())
        assert (spec.data.mini, spec.data.mean, spec.data.std) == (0.1, 0.1736, 0.3248)


def test_every_network_has_a_study() -> None:
    assert {file.stem for file in STUDIES} == {*models.names(), "quickstart", "lenet-paper", "lenet-wide"}


def test_the_paper_s_search_is_a_study_too() -> None:
    spec = StudySpec.load(PAPER)
    assert (spec.search.trials, spec.sampler.name, spec.pruner.name) == (28, "random", "none")


def test_the_wide_study_can_be_forked_from_that_of_the_paper() -> None:
    names = ("lenet-paper", "lenet-wide")
    paper, wide = (StudySpec.load(STUDIES[0].with_name(f"{name}.toml")) for name in names)
    assert (wide.model, wide.data, wide.seed) == (paper.model, paper.data, paper.seed)
    assert wide.search.epochs == paper.search.epochs
    assert all(point in wide.space for point in plan(paper.space, paper.search.trials, paper.seed))


def test_the_budget_of_the_search_is_sgd_on_the_mini_split() -> None:
    assert load().budget("search") == Budget("mini", (Phase("sgd", 3),), keep="last")


def test_the_budget_of_full_training_is_sgd_then_adam_and_keeps_the_best() -> None:
    text = TEXT.replace("{ epochs = 2 }", "{ epochs = 2, patience = 4 }").replace(
        "finetune = { epochs = 1 }", "finetune = { epochs = 1, lr = 0.5 }\nclip = 0.25"
    )
    budget = load(text).budget("full")
    augmentation = Augmentation(rotation=10)
    assert budget == Budget(
        "full",
        (
            Phase("sgd", 2, patience=4, clip=0.25, augmentation=augmentation),
            Phase("adam", 1, patience=5, clip=0.25, augmentation=augmentation, lr=0.5),
        ),
        keep="best",
    )
    assert budget.epochs == 3


def test_full_training_without_augmentation() -> None:
    budget = load(TEXT.replace("augment = { rotation = 10 }", "")).budget("full")
    assert [phase.augmentation for phase in budget.phases] == [None, None]


# For each key of a study file a value other than that of `WHOLE`.
OTHER: dict[str, object] = {
    "name": "other",
    "seed": 2,
    "model.name": "alexnet",
    "data.name": "mnist",
    "data.mini": 0.2,
    "data.validation": 0.3,
    "data.mean": 0.2,
    "data.std": 0.2,
    "space.lr": [0.01, 0.001],  # in another order the plan is another
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
    place = raw
    for section in sections:
        place = place[section]
    assert place[last] != value
    place[last] = value
    return StudySpec.parse(raw, "test")


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a study file, dotted."""
    for name, field in section.model_fields.items():
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        nested = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if prefix + name == "space":
            yield from (f"space.{parameter}" for parameter in PARAMETERS)
        elif nested:
            yield from keys(nested[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_cases_below_are_complete() -> None:
    assert OTHER.keys() == set(keys(StudySpec))


@pytest.mark.parametrize("key", OTHER)
def test_the_fingerprint_covers_every_key_but_those_that_may_change(key: str) -> None:
    before, after = StudySpec.parse(WHOLE, "test"), changed(key, OTHER[key])
    assert before != after
    may_change = key in EXTENDABLE or key.startswith(("stop.", "engine."))
    assert (before.fingerprint == after.fingerprint) == may_change
    differing = {k for k in before.identity() if before.identity()[k] != after.identity().get(k)}
    assert differing == (set() if may_change else {key})


def test_what_may_grow() -> None:
    assert {"search.trials", "promotion.top", "promotion.seeds"} == EXTENDABLE


@pytest.mark.parametrize("section", ["augment", "mean"])
def test_the_fingerprint_changes_with_what_is_left_out(section: str) -> None:
    raw = json.loads(json.dumps(WHOLE))
    for key in ("augment",) if section == "augment" else ("mean", "std"):
        del raw["full" if section == "augment" else "data"][key]
    assert StudySpec.parse(raw, "test").fingerprint != StudySpec.parse(WHOLE, "test").fingerprint


def test_the_fingerprint_is_that_of_the_values_and_not_of_their_spelling() -> None:
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


WHOLE_NUMBERS = st.integers(1, 10**6)
SHARES = st.floats(0.001, 0.5)
RATES = st.floats(1e-9, 1e3)
PHASES = {"epochs": WHOLE_NUMBERS, "patience": WHOLE_NUMBERS}
DOMAINS = {
    "lr": RATES | st.lists(RATES, min_size=1, max_size=4, unique=True),
    "batch_size": st.lists(st.integers(2, 4096), min_size=1, max_size=4, unique=True)
    | st.fixed_dictionaries(
        {"low": st.integers(2, 9), "high": st.integers(10, 99)}, optional={"log": st.booleans()}
    ),
    "momentum": st.floats(0, 0.999)
    | st.fixed_dictionaries(
        {"low": st.just(0), "high": st.integers(1, 9).map(lambda n: n / 10)}, optional={"step": st.just(0.1)}
    ),
    "weight_decay": st.fixed_dictionaries(
        {"low": st.floats(1e-9, 1e-3), "high": st.floats(1e-2, 1)}, optional={"log": st.booleans()}
    ),
}


def optional(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=strategies)


def with_statistics(section: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The section, or the section with a mean and a standard deviation: both or neither."""
    both = st.fixed_dictionaries({"mean": st.floats(0, 1), "std": RATES})
    return st.just(section) | both.map(lambda statistics: section | statistics)


RAW = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"\A[a-z0-9][a-z0-9_.-]{0,20}\Z").filter(
            lambda name: not name.endswith("-full")
        ),
        "model": st.fixed_dictionaries({"name": st.sampled_from(models.names())}),
        "data": st.fixed_dictionaries(
            {"name": st.sampled_from(["digits", "mine.sets:letters"])},
            optional={"mini": SHARES, "validation": SHARES},
        ).flatmap(with_statistics),
        "space": st.fixed_dictionaries(DOMAINS),
        "search": st.fixed_dictionaries({"trials": st.integers(100, 999), "epochs": st.integers(100, 999)}),
        "full": st.fixed_dictionaries(
            {
                "pretrain": st.fixed_dictionaries(PHASES),
                "finetune": st.fixed_dictionaries(PHASES, optional={"lr": RATES}),
            },
            optional={
                "clip": RATES,
                "augment": optional(
                    rotation=st.floats(0, 180),
                    shift=st.floats(0, 0.99),
                    scale=st.tuples(st.floats(0.1, 1), st.floats(1, 2)).map(list),
                    shear=st.floats(0, 89),
                ),
            },
        ),
    },
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "sampler": optional(name=st.sampled_from(["random", "tpe"]), startup=WHOLE_NUMBERS),
        "pruner": optional(
            name=st.sampled_from(["none", "median", "asha", "hyperband"]),
            startup_trials=WHOLE_NUMBERS,
            warmup_epochs=st.integers(0, 99),
            min_epochs=st.integers(1, 99),
            reduction=st.integers(2, 9),
        ),
        "stop": optional(
            target=st.floats(-1e3, 1e3), patience=WHOLE_NUMBERS, epochs=WHOLE_NUMBERS, device_hours=RATES
        ),
        "promotion": optional(top=st.integers(1, 99), seeds=WHOLE_NUMBERS),
    },
)


@settings(max_examples=40)
@given(RAW)
def test_a_spec_is_read_back_from_json_and_from_toml(raw: dict[str, Any]) -> None:
    spec = StudySpec.parse(raw, "test")
    stored = json.loads(json.dumps(spec.to_json(), allow_nan=False))
    shown = tomllib.loads(tomli_w.dumps(spec.to_json()))
    for read in (StudySpec.parse(stored, "test"), StudySpec.parse(shown, "test")):
        assert read == spec
        assert read.to_json() == spec.to_json()
        assert read.fingerprint == spec.fingerprint


@pytest.mark.parametrize(
    ("changes", "stage", "images", "tunes"),
    [
        # 28 trials of 5 epochs of 8,000 / 16, 8,000 / 32 and 8,000 / 64 steps: 13,611 for each size.
        ({}, "search", 8000, True),
        ({}, "search", 1000, False),
        ({"engine.compile": "always"}, "search", 1000, True),
        ({"engine.compile": "never"}, "search", 8000, True),
        ({"model.name": "package.module:Network"}, "search", 8000, False),
        ({"model.name": "package.module:Network", "engine.compile": "always"}, "search", 8000, True),
        ({"promotion.top": 1, "promotion.seeds": 1, "full.pretrain.epochs": 1}, "full", 90_000, False),
        ({"promotion.top": 1, "promotion.seeds": 1, "full.pretrain.epochs": 5}, "full", 90_000, True),
    ],
)
def test_tuned_is_what_pays_for_it(
    changes: dict[str, object], stage: Literal["search", "full"], images: int, tunes: bool
) -> None:
    raw = StudySpec.load(PAPER).to_json()
    for key, value in changes.items():
        *sections, name = key.split(".")
        table = raw
        for section in sections:
            table = table[section]
        table[name] = value
    assert StudySpec.parse(raw, "test").tunes(stage, images) == tunes


@pytest.mark.parametrize(
    ("model", "compile", "captures"),
    [
        ("lenet", "auto", True),
        ("lenet", "never", False),
        ("package.module:Network", "auto", False),
        ("package.module:Network", "always", True),
    ],
)
def test_steps_of_our_own_networks_are_graphs(model: str, compile: str, captures: bool) -> None:
    raw = StudySpec.load(PAPER).to_json() | {"model": {"name": model}, "engine": {"compile": compile}}
    assert StudySpec.parse(raw, "test").captures == captures


def test_bfloat16_is_for_searches_with_networks_that_were_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.values.precision.BFLOAT16_MODELS", {"lenet"})
    raw = StudySpec.load(PAPER).to_json()
    lenet = StudySpec.parse(raw, "test")
    assert lenet.precisions("search") == ("float32", "bfloat16")
    assert lenet.precisions("full") == ("float32",)
    other = StudySpec.parse({**raw, "model": {"name": "package.module:Network"}}, "test")
    assert other.precisions("search") == ("float32",)
    fixed = StudySpec.parse({**raw, "engine": {"precision": "bfloat16"}}, "test")
    assert fixed.precisions("search") == fixed.precisions("full") == ("bfloat16",)
    assert fixed.fingerprint == lenet.fingerprint


def test_a_range_of_batch_sizes_is_too_many_programs() -> None:
    raw = StudySpec.load(PAPER).to_json()
    raw["space"]["batch_size"] = {"low": 16, "high": 64}
    assert not StudySpec.parse(raw, "test").tunes("search", 8000)
