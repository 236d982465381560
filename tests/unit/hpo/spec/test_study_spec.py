import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.study_file import TEXT, load

from hpo import models
from hpo.errors import SpecError
from hpo.search.pruners.pause import PauseSection
from hpo.search.samplers.gp import GpSampler
from hpo.search.samplers.points import plan
from hpo.spec.study_spec import StudySpec
from hpo.values.budget import Augmentation, Budget, Phase
from hpo.values.space import Choices

STUDIES = sorted((Path(__file__).parents[4] / "studies").glob("*.toml"))
PAPER = next(path for path in STUDIES if path.stem == "lenet-paper")


def test_study_without_a_name_gets_the_name_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "small-2.toml"
    file.write_text(TEXT)
    assert StudySpec.load(file).name == "small-2"
    file.write_text('name = "other"\n' + TEXT)
    assert StudySpec.load(file).name == "other"
    assert StudySpec.load(file).full_name == "other-full"


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
        lambda text: (text + "# caf\u00e9").encode(),
    ],
    ids=["byte order mark", "Windows line endings", "both", "accents"],
)
def test_file_of_any_editor_is_read(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    file = tmp_path / "small.toml"
    file.write_bytes(encode(TEXT))
    assert StudySpec.load(file) == load()


@pytest.mark.parametrize("name", ["MyStudy", "my study", "-x", "a" * 64])
def test_file_whose_name_is_none_for_a_study_needs_a_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.toml"
    file.write_text(TEXT)
    with pytest.raises(SpecError, match="this is the name of the file: rename it, or begin it with name = "):
        StudySpec.load(file)
    file.write_text('name = "mine"\n' + TEXT)
    assert StudySpec.load(file).name == "mine"


@pytest.mark.parametrize("pruner", ["none", "median", "asha", "hyperband", "pause"])
def test_a_search_of_one_epoch_is_read_and_stored(pruner: str) -> None:
    spec = load(TEXT.replace("epochs = 3", "epochs = 1").replace('"asha"', f'"{pruner}"'))
    assert StudySpec.from_stored(spec.to_stored(), "stored study 'small'") == spec
    assert spec.make_pruner().pause_epochs == ()


@pytest.mark.parametrize(("epochs", "rung"), [(5, 1), (12, 4)])
@pytest.mark.parametrize("given", ['[pruner]\nname = "asha"', "", '[pruner]\nname = "hyperband"'])
def test_first_rung_is_stored_as_a_number(given: str, epochs: int, rung: int) -> None:
    text = TEXT.replace('[pruner]\nname = "asha"', given).replace("epochs = 3", f"epochs = {epochs}")
    spec = load(text)
    stored = spec.to_stored()
    assert stored["pruner"]["min_epochs"] == rung
    explicit = StudySpec.from_stored(stored, "test")
    assert (explicit, explicit.identity(), explicit.fingerprint) == (spec, spec.identity(), spec.fingerprint)
    assert StudySpec.from_stored({**stored, "pruner": {**stored["pruner"], "min_epochs": 2}}, "test") != spec


def test_a_stored_study_may_have_a_budget_that_no_trial_fits() -> None:
    stored = {**load().to_stored(), "stop": {"epochs": 2}}
    assert StudySpec.from_stored(stored, "stored study 'small'").stop.epochs == 2


def test_numbers_of_numpy_are_numbers() -> None:
    space = {"batch_size": [np.int64(32)], "lr": list(np.array([0.01, 0.1], np.float32))}
    spec = StudySpec.parse({**load().to_json(), "space": space})
    assert spec.space.domains["batch_size"] == Choices((32,))
    assert spec.space.domains["lr"] == Choices((float(np.float32(0.01)), float(np.float32(0.1))))


def test_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^study: \('a', 'b'\): a key must be text$"):
        StudySpec.parse({**load().to_json(), ("a", "b"): 1})  # type: ignore[dict-item]


def test_spec_is_frozen() -> None:
    spec = load()
    with pytest.raises(ValidationError, match="frozen"):
        spec.seed = 2  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        spec.search.trials = 2  # type: ignore[misc]


@pytest.mark.parametrize("name", ["mine.networks:Net", "mine:Net"])
def test_own_model_is_not_imported(name: str) -> None:
    assert load(TEXT.replace("lenet", name)).model.name == name


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_studies_of_the_project_parse(file: Path) -> None:
    spec = StudySpec.load(file)
    assert spec.name == file.stem
    if spec.name in models.names():
        assert (spec.model.name, spec.data.name) == (file.stem, "emnist-byclass")
        # The paper's grid, normalisation and cost, with the default sampler and pruner.
        assert (spec.space.cells, spec.search.epochs, spec.stop.epochs) == (144, 5, 28 * 5)
        assert (spec.sampler, spec.pruner) == (GpSampler(), PauseSection())
        assert (spec.data.mini, spec.data.mean, spec.data.std) == (0.1, 0.1736, 0.3248)


def test_every_network_has_a_study() -> None:
    assert {file.stem for file in STUDIES} == {*models.names(), "quickstart", "lenet-paper", "lenet-wide"}


def test_paper_search_has_a_study() -> None:
    spec = StudySpec.load(PAPER)
    assert (spec.search.trials, spec.sampler.name, spec.pruner.name) == (28, "random", "none")


def test_wide_study_can_be_forked_from_the_paper_study() -> None:
    names = ("lenet-paper", "lenet-wide")
    paper, wide = (StudySpec.load(STUDIES[0].with_name(f"{name}.toml")) for name in names)
    assert (wide.model, wide.data, wide.seed) == (paper.model, paper.data, paper.seed)
    assert wide.search.epochs == paper.search.epochs
    assert all(point in wide.space for point in plan(paper.space, paper.search.trials, paper.seed))


def test_search_budget_is_sgd_on_the_mini_split() -> None:
    assert load().budget("search") == Budget("mini", (Phase("sgd", 3),), keep="last")


def test_full_budget_is_sgd_then_adam_and_keeps_the_best() -> None:
    text = TEXT.replace("{ epochs = 2 }", "{ epochs = 2, patience = 4 }").replace(
        "finetune = { epochs = 1 }", "finetune = { epochs = 1, lr = 0.5 }\nclip = 0.25"
    )
    budget = load(text).budget("full")
    augmentation = Augmentation(rotation=10)
    assert budget == Budget(
        "full",
        (
            Phase("sgd", 2, patience=4, clip=0.25, augmentation=augmentation),
            Phase("adam", 1, patience=5, clip=0.25, augmentation=augmentation, settings={"lr": 0.5}),
        ),
        keep="best",
    )
    assert budget.epochs == 3


def test_full_training_without_augmentation() -> None:
    budget = load(TEXT.replace("augment = { rotation = 10 }", "")).budget("full")
    assert [phase.augmentation for phase in budget.phases] == [None, None]


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


def moments(channels: int | None) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a mean and a standard deviation, one number each or one per channel."""
    mean, std = st.floats(0, 1), RATES
    if channels is None:
        return st.fixed_dictionaries({"mean": mean, "std": std})
    return st.fixed_dictionaries(
        {
            "mean": st.lists(mean, min_size=channels, max_size=channels),
            "std": st.lists(std, min_size=channels, max_size=channels),
        }
    )


def with_statistics(section: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw the section with both mean and standard deviation, or with neither."""
    both = st.sampled_from([None, 1, 3]).flatmap(moments)
    return st.just(section) | both.map(lambda statistics: section | statistics)


RUNGS = {"min_epochs": st.integers(1, 99), "reduction": st.integers(2, 9)}

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
                "recipe": st.sampled_from(["paper", "modern"]),
                "schedule": st.sampled_from(["constant", "cosine", "one-cycle"]),
                "label_smoothing": st.floats(0, 1),
                "dropout": st.just(False) | st.floats(0, 0.9),
                "nesterov": st.booleans(),
                "ema": st.just(False) | st.floats(0.1, 0.9),
                "clip": st.just(False) | RATES,
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
        "sampler": optional(name=st.sampled_from(["random", "tpe", "gp"]), startup=WHOLE_NUMBERS),
        "pruner": st.one_of(
            optional(name=st.just("none")),
            st.fixed_dictionaries(
                {"name": st.just("median")},
                optional={"startup_trials": WHOLE_NUMBERS, "warmup_epochs": st.integers(0, 99)},
            ),
            st.fixed_dictionaries({"name": st.sampled_from(["asha", "hyperband", "pause"])}, optional=RUNGS),
            optional(**RUNGS),  # the default
        ),
        "stop": optional(
            target=st.floats(-1e3, 1e3),
            patience=WHOLE_NUMBERS,
            epochs=st.integers(1000, 9999),
            device_hours=RATES,
        ),
        "promotion": optional(top=st.integers(1, 99), seeds=WHOLE_NUMBERS),
    },
)


@settings(max_examples=40)
@given(RAW)
def test_spec_survives_a_round_trip_through_json_and_toml(raw: dict[str, Any]) -> None:
    spec = StudySpec.parse(raw, "test")
    stored = json.loads(json.dumps(spec.to_json(), allow_nan=False))
    shown = tomllib.loads(tomli_w.dumps(spec.to_json()))
    for read in (StudySpec.parse(stored, "test"), StudySpec.parse(shown, "test")):
        assert read == spec
        assert read.to_json() == spec.to_json()
        assert read.fingerprint == spec.fingerprint


@pytest.mark.parametrize(
    ("changes", "stage", "images", "autotunes"),
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
def test_only_stages_that_are_long_enough_are_autotuned(
    changes: dict[str, object], stage: Literal["search", "full"], images: int, autotunes: bool
) -> None:
    raw = StudySpec.load(PAPER).to_json()
    for key, value in changes.items():
        *sections, name = key.split(".")
        table = raw
        for section in sections:
            table = table[section]
        table[name] = value
    assert StudySpec.parse(raw, "test").autotunes(stage, images) == autotunes


@pytest.mark.parametrize(
    ("model", "compile", "uses_cuda_graphs"),
    [
        ("lenet", "auto", True),
        ("lenet", "never", False),
        ("package.module:Network", "auto", False),
        ("package.module:Network", "always", True),
    ],
)
def test_built_in_networks_use_cuda_graphs(model: str, compile: str, uses_cuda_graphs: bool) -> None:
    raw = StudySpec.load(PAPER).to_json() | {"model": {"name": model}, "engine": {"compile": compile}}
    assert StudySpec.parse(raw, "test").uses_cuda_graphs == uses_cuda_graphs


def test_bfloat16_is_limited_to_searches_with_listed_networks() -> None:
    raw = StudySpec.load(PAPER).to_json()
    lenet = StudySpec.parse(raw, "test")
    assert lenet.precisions("search") == ("float32",)
    resnet = StudySpec.parse({**raw, "model": {"name": "resnet"}}, "test")
    assert resnet.precisions("search") == ("float32", "bfloat16")
    assert resnet.precisions("full") == ("float32",)
    own = StudySpec.parse({**raw, "model": {"name": "package.module:Network"}}, "test")
    assert own.precisions("search") == ("float32",)
    fixed = StudySpec.parse({**raw, "engine": {"precision": "bfloat16"}}, "test")
    assert fixed.precisions("search") == fixed.precisions("full") == ("bfloat16",)
    assert fixed.fingerprint == lenet.fingerprint


def test_range_of_batch_sizes_is_not_autotuned() -> None:
    raw = StudySpec.load(PAPER).to_json()
    raw["space"]["batch_size"] = {"low": 16, "high": 64}
    assert not StudySpec.parse(raw, "test").autotunes("search", 8000)


def test_mean_of_a_huge_range_of_batch_sizes_is_quick() -> None:
    raw = StudySpec.load(PAPER).to_json()
    raw["space"]["batch_size"] = {"low": 2, "high": 2**53 - 1, "log": True}
    assert not StudySpec.parse(raw, "test").autotunes("search", 8000)


def test_space_needs_a_parameter() -> None:
    raw = {**tomllib.loads(TEXT), "name": "small", "space": {}}
    with pytest.raises(SpecError, match=r"^test: space = \{\}: must have at least one parameter$"):
        StudySpec.parse(raw, "test")


def test_space_without_batch_sizes_is_autotuned_for_the_default() -> None:
    raw = StudySpec.load(PAPER).to_json()
    del raw["space"]["batch_size"]
    assert StudySpec.parse(raw, "test").autotunes("search", 80000)
