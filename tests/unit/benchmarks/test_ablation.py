"""The variants of the recipe: each differs from the recipe in what its name says."""

from typing import Any

import pytest

from benchmarks.ablation import BASE, VARIANTS, Ablation, difference_cell, parse_params, variant_figures
from benchmarks.paper.scores import finite
from benchmarks.paper.studies import Plan
from benchmarks.paper.trained import Trained, Training
from hpo.errors import InputError
from hpo.spec.fingerprint import flatten
from hpo.spec.study_spec import StudySpec

CELL = {"lr": 0.1, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.0}
CHANGED = {
    BASE: set(),
    "constant": {"full.schedule"},
    "ema": {"full.ema"},
    "no-smoothing": {"full.label_smoothing"},
    "no-dropout": {"full.dropout"},
    "own-dropout": {"full.dropout"},
    "no-augmentation": {"full.augment"},
    "strong-augmentation": {"full.augment.rotation", "full.augment.shift"},
    "no-nesterov": {"full.nesterov"},
    "no-clipping": {"full.clip"},
    "adam": {"full.finetune.epochs", "full.finetune.patience", "full.finetune.lr"},
}


def studies(epochs: int | None = None, network: str = "lenet") -> dict[str, StudySpec]:
    return Ablation(Plan(network, 3, 3, epochs), CELL).studies()


@pytest.mark.parametrize("label", CHANGED)
def test_variant_changes_one_part_of_the_recipe(label: str) -> None:
    base, spec = ({**flatten(study.to_json())} for study in (studies()[BASE], studies()[label]))
    different = {key for key in base.keys() | spec.keys() if base.get(key) != spec.get(key)}
    expected = CHANGED[label] | ({"name"} if label != BASE else set())
    assert {key for key in different if not key.startswith("full.augment")} >= {
        key for key in expected if not key.startswith("full.augment")
    }
    assert {key.removeprefix("full.").partition(".")[0] for key in different} == {
        key.removeprefix("full.").partition(".")[0] for key in expected
    }


def test_number_of_epochs_is_that_of_all_variants() -> None:
    specs = studies(epochs=9)
    assert {spec.full.pretrain.epochs for spec in specs.values()} == {9}
    assert specs["adam"].full.phases("sgd", ())[1].epochs == 5
    assert all(spec.promotion.seeds == 3 and spec.space.cells == 1 for spec in specs.values())


def test_names_of_the_studies_are_distinct() -> None:
    names = [spec.name for spec in studies().values()]
    assert len(set(names)) == len(names) == len(VARIANTS)
    assert "lenet-ablation-ema" in names


def test_variant_that_is_the_recipe_is_left_out() -> None:
    assert studies().keys() == VARIANTS.keys()
    assert VARIANTS.keys() - studies(network="vggnet").keys() == {"own-dropout"}


@pytest.mark.parametrize("text", ["lr", "lr=", "lr=fast", ""])
def test_params_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="NAME=NUMBER"):
        parse_params(text)


def test_params_are_whole_numbers_where_written_so() -> None:
    assert parse_params("lr=0.1,batch_size=16") == {"lr": 0.1, "batch_size": 16}


def trained(accuracies: dict[int, float]) -> Trained:
    common: dict[str, Any] = {"loss": 0.5, "kept_epoch": 3, "epochs": 3, "seconds": 1.0, "device": "cpu"}
    trainings = [
        Training(trial=index, index=index, accuracy=accuracy, ended="", weights="", curve=[], **common)
        for index, accuracy in accuracies.items()
    ]
    return Trained("study", {}, CELL, trainings, 3, [], {})


def test_difference_is_paired_by_seed() -> None:
    figures = variant_figures(trained({0: 0.8, 2: 0.7}), trained({0: 0.79, 1: 0.1, 2: 0.67}))
    assert figures["difference"]["value"] == pytest.approx(0.02)
    assert difference_cell(figures["difference"]) == "+2.00 ± 12.71"


def test_recipe_has_no_difference_to_itself() -> None:
    base = trained({0: 0.8})
    assert "difference" not in variant_figures(base, base)
    assert difference_cell(None) == ""


def test_single_seed_has_a_difference_without_an_interval() -> None:
    figures = finite(variant_figures(trained({0: 0.81}), trained({0: 0.8})))
    assert difference_cell(figures["difference"]) == "+1.00"
