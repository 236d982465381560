"""Study files of a user's training function."""

import pytest
from support.study_file import FUNCTION_TEXT, TEXT, load

from hpo.errors import SpecError
from hpo.spec.study_spec import StudySpec
from hpo.values.free import FREE
from hpo.values.objective import Objective
from hpo.values.resources import Resources


def lines(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(text)
    return [line.removeprefix("test: ") for line in str(caught.value).splitlines()]


def test_study_of_a_function_has_free_parameters_and_a_metric_of_any_value() -> None:
    spec = load(FUNCTION_TEXT)
    assert spec.train is not None
    assert (spec.is_function, spec.train.function) == (True, "train:fit")
    assert spec.space.vocabulary is FREE
    assert spec.make_objective() == Objective("accuracy", "maximize", "accuracy", "any")
    assert spec.promotion_metric() == spec.make_objective()
    assert spec.make_resources() == Resources()
    assert spec.max_width == 1
    assert (spec.budget("search").epochs, spec.budget("search").keep) == (3, "last")
    assert (spec.budget("full").epochs, spec.budget("full").keep) == (5, "best")


@pytest.mark.parametrize(
    "text",
    [
        FUNCTION_TEXT,
        FUNCTION_TEXT.replace("[full]\nepochs = 5\n", ""),
        FUNCTION_TEXT.replace('[objective]\nmetric = "accuracy"\ndirection = "maximize"\n', ""),
        FUNCTION_TEXT + '[resources]\ngpus = 0.25\ncpus = 4\nmemory = "2 GiB"\n[stop]\ntarget = -3.5\n',
    ],
)
def test_stored_spec_is_read_back(text: str) -> None:
    spec = load(text)
    stored = spec.to_stored()
    assert not stored.keys() & {"model", "data", "engine", "export"}
    again = StudySpec.from_stored(stored, "stored study 'small'")
    assert (again, again.fingerprint, again.identity()) == (spec, spec.fingerprint, spec.identity())


def test_what_a_file_of_a_function_leaves_out_has_a_default() -> None:
    text = FUNCTION_TEXT.replace("[full]\nepochs = 5\n", "").replace("epochs = 3\n", "")
    assert [load(text).budget(stage).epochs for stage in ("search", "full")] == [1, 1]
    text = FUNCTION_TEXT.replace('[objective]\nmetric = "accuracy"\ndirection = "maximize"\n', "")
    assert load(text).make_objective() == Objective("loss", "minimize", "loss", "any")
    assert load(text + "[stop]\ntarget = -1\n").stop.target == -1


def test_promotion_may_have_a_metric_of_its_own() -> None:
    spec = load(FUNCTION_TEXT.replace("top = 2", 'metric = "val/loss"\ndirection = "minimize"'))
    assert spec.promotion_metric() == Objective("val/loss", "minimize", "val/loss")
    assert load(FUNCTION_TEXT.replace("top = 2", 'metric = "accuracy"')).promotion_metric().is_maximised


def test_resources_are_numbers() -> None:
    spec = load(FUNCTION_TEXT + '[resources]\ngpus = 2\ncpus = 4\nmemory = "2 GiB"\n')
    assert spec.make_resources() == Resources(2.0, 4, 2**31)


def test_study_of_a_network_has_no_section_of_functions() -> None:
    spec = load(TEXT)
    assert (spec.is_function, spec.train, spec.resources, spec.max_width) == (False, None, None, None)
    assert not spec.to_json().keys() & {"train", "resources"}


TRAIN = '[train]\nfunction = "train:fit"\n'
OBJECTIVE = '[objective]\nmetric = "accuracy"\ndirection = "maximize"\n'

MISTAKES = {
    "both ways": (
        TRAIN,
        f'[model]\nname = "lenet"\n{TRAIN}',
        ["train: a study has [train] or [model] and [data]; this one has [model], too"],
    ),
    "data of a function": (
        TRAIN,
        f'[data]\nname = "digits"\n{TRAIN}',
        ["train: a study has [train] or [model] and [data]; this one has [data], too"],
    ),
    "export of a function": (
        TRAIN,
        f"{TRAIN}[export]\nshifts = 1\n",
        ["export: is a section of a study with [model]"],
    ),
    "engine of a function": (
        TRAIN,
        f'{TRAIN}[engine]\ncompile = "never"\n',
        ["engine: is a section of a study with [model]"],
    ),
    "phases of a function": (
        "epochs = 5",
        "epochs = 5\npretrain = { epochs = 1 }",
        ["full.pretrain: is a key of a study with [model]; with [train], the only key is full.epochs"],
    ),
    "full misspelt": ("[full]\nepochs", "[full]\nepoch", ["full.epoch: unknown key; did you mean 'epochs'?"]),
    "no epochs": ("epochs = 5", "epochs = 0", ["full.epochs = 0: must be at least 1"]),
    "a file as a module": (
        '"train:fit"',
        '"train.py:fit"',
        [
            'train.function = "train.py:fit": must be a function of your own as package.module:function; '
            "did you mean train:fit?"
        ],
    ),
    "no function": ('function = "train:fit"', "", ["train.function: is missing"]),
    "no direction": (
        'direction = "maximize"\n',
        "",
        ['objective.direction: is missing; is accuracy to "minimize" or to "maximize"?'],
    ),
    "a loss to maximize": (
        'metric = "accuracy"\n',
        "",
        ["objective.metric: is missing; a loss is minimized"],
    ),
    "metric with a space": (
        '"accuracy"',
        '"my metric"',
        [
            "objective.metric = \"my metric\": must be at most 64 of a-z, A-Z, 0-9, '_', '-', '.', '/' and "
            "begin with a letter or '_'"
        ],
    ),
    "metric of the promotion without direction": (
        "top = 2",
        'metric = "loss"',
        ['promotion.direction: is missing; is loss to "minimize" or to "maximize"?'],
    ),
    "another direction of the same metric": (
        "top = 2",
        'metric = "accuracy"\ndirection = "minimize"',
        ["promotion.direction: must be that of the objective, which is the same metric"],
    ),
    "direction of nothing": ("top = 2", 'direction = "minimize"', ["promotion.metric: is missing"]),
    "name that is none in Python": (
        "depth",
        "lambda",
        ["space.lambda: is no name in Python of at most 64 of a-z, A-Z, 0-9, '_'"],
    ),
    "name of two lines": (
        "depth",
        '"a\\nb"',
        ["space.a\\nb: is no name in Python of at most 64 of a-z, A-Z, 0-9, '_'"],
    ),
    "one and a half GPUs": (
        TRAIN,
        f"{TRAIN}[resources]\ngpus = 1.5\n",
        ["resources.gpus = 1.5: must be a whole number, or a share of one GPU below 1"],
    ),
    "crumb of a GPU": (
        TRAIN,
        f"{TRAIN}[resources]\ngpus = 1e-300\n",
        ["resources.gpus = 1e-300: must be 0, or at least 0.01"],
    ),
    "endless full training": (
        "[full]\nepochs = 5",
        "[full]\nepochs = 99999999999999999999",
        ["full.epochs = 99999999999999999999: must be at most 1000000"],
    ),
    "negative GPUs": (
        TRAIN,
        f"{TRAIN}[resources]\ngpus = -1\n",
        ["resources.gpus = -1: must be at least 0.0"],
    ),
    "no CPU": (TRAIN, f"{TRAIN}[resources]\ncpus = 0\n", ["resources.cpus = 0: must be at least 1"]),
    "memory without a unit": (
        TRAIN,
        f'{TRAIN}[resources]\nmemory = "8"\n',
        ['resources.memory = "8": must be an amount with a unit, such as "8 GB" or "512 MiB"'],
    ),
}


@pytest.mark.parametrize(("right", "wrong", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_reported_in_one_line(right: str, wrong: str, expected: list[str]) -> None:
    assert FUNCTION_TEXT.count(right) == 1
    assert lines(FUNCTION_TEXT.replace(right, wrong)) == expected


def test_study_of_a_network_refuses_keys_of_functions() -> None:
    assert lines(TEXT.replace("[full]", "[resources]\ncpus = 1\n[full]\nepochs = 3")) == [
        "resources: is a section of a study with [train]",
        "full.epochs: is a key of a study with [train]; with [model], the keys are full.pretrain.epochs and "
        "full.finetune.epochs",
    ]
    assert lines(TEXT.replace("top = 2", 'metric = "error"')) == [
        "promotion.metric = \"error\": must be one of 'loss', 'accuracy', 'macro_f1', 'balanced_accuracy', "
        "'rmse', 'mae' or 'r2'"
    ]


def test_a_section_without_a_value_is_left_out() -> None:
    raw = load(FUNCTION_TEXT).to_json()
    assert StudySpec.parse({**raw, "model": None, "data": None}) == load(FUNCTION_TEXT)
    with pytest.raises(SpecError, match=r"^study: model: is missing\nstudy: data: is missing$"):
        StudySpec.parse({**load(TEXT).to_json(), "model": None, "data": None, "train": None})
