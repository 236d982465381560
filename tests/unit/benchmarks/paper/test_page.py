"""The page of the results: a section for each question, from JSON alone."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.ablation import variant_figures
from benchmarks.paper.intervals import Interval
from benchmarks.paper.page import (
    BEGIN,
    END,
    NOT_YET,
    PAGE,
    README,
    load_results,
    page,
    readme_with,
    short_table,
)
from benchmarks.paper.scores import compare, finite, score, verdict
from benchmarks.paper.studies import NETWORKS
from benchmarks.paper.testing import METRICS
from benchmarks.paper.trained import Trained, Training
from benchmarks.results import Origin, Result

CELL = {"lr": 0.1, "batch_size": 16}
ORIGIN = Origin("python -m benchmarks.paper", "1.0", "abc", "2030-01-31", "2 cores", {"hpo": "1.0"})
RNG = np.random.default_rng(0)
HITS = np.asarray(RNG.random((2, 500)) < 0.9)
WORSE = np.asarray(RNG.random((1, 500)) < 0.2)


def trained(*accuracies: float) -> Trained:
    trainings = [
        Training(
            trial=index,
            index=index,
            accuracy=accuracy,
            loss=0.4,
            kept_epoch=2,
            epochs=2,
            seconds=61.0,
            device="cpu",
            ended="2030-01-30",
            weights="",
            curve=[[1.5, 0.7, 0.5], [1.0, 0.4, accuracy]],
        )
        for index, accuracy in enumerate(accuracies)
    ]
    search = {"trials": 28, "epochs": 140, "seconds": 30.0, "best": 0.5}
    return Trained("vggnet", {"recipe": "modern"}, CELL, trainings, 2, [], search)


def network() -> dict[str, Any]:
    """Return figures in the form of `Reader.network`."""
    validation, arms = compare(HITS, {"default": WORSE})
    spread = {name: {"mean": 0.9, "deviation": 0.01} for name in METRICS}
    one = {**score(HITS[:1]), **dict.fromkeys(METRICS, 0.91)}
    cell = {"study": "vggnet-middle-1", "params": CELL, "epochs": 1, "seconds": 5.0}
    figures = {
        **trained(0.91, 0.89).to_json(),
        "validation": {**validation, "ensemble": score(HITS[:1])},
        "train": score(HITS),
        "test": {**score(HITS), "metrics": spread, "reads": 3, "ensemble": one},
        "arms": {"default": {**trained(0.2).to_json(), "validation": arms["default"]}},
        "middle": [{**cell, "accuracy": 0.8, "loss": 0.6}, {**cell, "accuracy": 0.81, "loss": 0.5}],
        "ceilings": [{"unknown": "case", "sets": [], "accuracy": 0.9401}],
    }
    plain: dict[str, Any] = finite(figures)
    return plain


RESULT = Result("paper", "vggnet", 2, ORIGIN, values={"networks": {"vggnet": network()}})
BASE = trained(0.9, 0.8)
VARIANTS = {"recipe": variant_figures(BASE, BASE), "no-clipping": variant_figures(trained(0.8, 0.7), BASE)}
ABLATION = Result("ablation", "vggnet", 2, ORIGIN, values={"vggnet": {"params": CELL, "variants": VARIANTS}})
FEW = Result("few_images", "ensnet", 1, ORIGIN, values={"ensnet": trained(0.1).to_json()})


def test_page_in_docs_is_that_of_the_kept_results() -> None:
    assert PAGE.read_text() == page(load_results())


def test_readme_has_the_table_of_the_kept_results() -> None:
    text = README.read_text()
    assert text == readme_with(text, short_table(load_results()))


def test_section_without_a_result_says_so() -> None:
    text = page([])
    assert text.count(NOT_YET) == text.count("\n## ") == 9
    assert page([RESULT]).count(NOT_YET) == 2
    assert NOT_YET not in page([RESULT, ABLATION, FEW])


def test_section_names_command_date_revision_and_hardware() -> None:
    facts = "VGGNet: n = 2 seeds; `python -m benchmarks.paper`, 2030-01-31; hpo 1.0 (revision abc); 2 cores; "
    assert page([RESULT]).count(facts) == 7


def test_test_accuracy_stands_beside_the_published_figure() -> None:
    text = page([RESULT])
    mean = 100 * HITS.mean()
    assert f"| VGGNet | 87.24 | {mean:.2f} ± " in text
    assert "- VGGNet is better than the published one by " in text


def test_sentence_says_what_the_search_gains() -> None:
    gain = 100 * (HITS.mean() - WORSE.mean())
    assert f"- validation: the parameters found are better than the defaults by {gain:.2f} ± " in page(
        [RESULT]
    )


def test_arm_that_failed_has_the_reason() -> None:
    figures = network()
    figures["arms"]["random-1"] = {**trained().to_json(), "failed": ["the loss is not finite"]}
    figures["arms"]["random-2"] = trained().to_json()
    text = page([replace(RESULT, values={"networks": {"vggnet": figures}})])
    assert "| random-1 | lr=0.1 batch_size=16 | 0 | the loss is not finite | - |" in text
    assert "| random-2 | lr=0.1 batch_size=16 | 0 | not finished | - |" in text


def test_middle_fidelity_names_its_choice() -> None:
    assert "Middle fidelity chooses rank 2." in page([RESULT])


def test_ablation_has_paired_differences() -> None:
    assert "| without clipping | 2 of 2 | 75.00 ± 7.07 | -10.00 ± 0.00 | 0.4000 |" in page([ABLATION])


def test_few_images_have_a_curve() -> None:
    assert "### EnsNet\n\n| epoch | training loss | validation loss |\n" in page([FEW])
    assert "| 2 | 1.0000 | 0.4000 |" in page([FEW])


def test_newest_result_of_a_network_counts() -> None:
    old = replace(RESULT, origin=replace(ORIGIN, date="2029-01-01"), values={"networks": {"vggnet": {}}})
    other = replace(old, values={"networks": {"vggnet": network(), "lenet": network()}})
    text = page([RESULT, other])
    assert "VGGNet: n = 2 seeds; `python -m benchmarks.paper`, 2030-01-31" in text
    assert "LeNet: n = 2 seeds; `python -m benchmarks.paper`, 2029-01-01" in text


def test_short_table_is_empty_before_a_test() -> None:
    untested = {key: value for key, value in network().items() if key != "test"}
    assert short_table([replace(RESULT, values={"networks": {"vggnet": untested}})]) == ""
    table = short_table([RESULT])
    assert len(table.splitlines()) == 5
    assert "| VGGNet | 87.24 | " in table
    assert readme_with(f"a\n{BEGIN}old\n{END}b\n", table) == f"a\n{BEGIN}{table}{END}b\n"


def test_readme_has_room_for_all_networks() -> None:
    networks = dict.fromkeys(NETWORKS, network())
    table = short_table([replace(RESULT, values={"networks": networks})])
    text = readme_with(README.read_text(), table)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert len(text.splitlines()) <= 150
    assert len(prose.split()) <= 900


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(0.0012, -0.0008, 0.0032, True), "a is better than b by 0.12 ± 0.20 points: a tie"),
        (Interval(-0.02, -0.03, -0.01, True), "a is worse than b by 2.00 ± 1.00 points"),
        (
            Interval(0.02, 0.01, 0.03, False),
            "a is better than b by 2.00 ± 1.00 points (sampling of the images alone)",
        ),
    ],
)
def test_verdict_says_whether_it_is_a_tie(interval: Interval, words: str) -> None:
    assert verdict("a is", "b", interval) == words


def test_arm_with_one_seed_borrows_the_spread_of_the_seeds_found() -> None:
    found, arms = compare(HITS, {"default": WORSE})
    assert found["interval"]["has_seeds"]
    assert arms["default"]["interval"]["has_seeds"]
    assert arms["default"]["difference"]["value"] == pytest.approx(HITS.mean() - WORSE.mean())
    assert compare(None, {"default": WORSE})[1]["default"].keys() == found.keys()
