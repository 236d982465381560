"""Assumptions that fail."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState
from support.report_data import event, study_data, trial
from support.study_file import TEXT, load

from hpo.report.blocks import Warnings
from hpo.report.sections.warnings import edge_of, first_rung, warnings
from hpo.report.study_data import StudyData
from hpo.store.trials import Foreign
from hpo.study.lifecycle import Stopped
from hpo.values.domains import Choices, Range, Value


def said(data: StudyData) -> list[str]:
    section = warnings(data)
    if section is None:
        return []
    (block,) = section.blocks
    assert isinstance(block, Warnings)
    return [*block.sentences]


def starts(data: StudyData, words: str) -> bool:
    return any(sentence.startswith(words) for sentence in said(data))


def test_sound_search_has_no_warnings() -> None:
    data = study_data([trial(n, [0.9 + n / 10, 0.5 + n / 10, 0.4 + n / 10], error=0.001) for n in range(12)])
    assert said(data) == []


def test_few_completed_trials() -> None:
    data = study_data([trial(0, [0.5]), trial(1, [0.6], TrialState.PRUNED)])
    assert starts(data, "Only 1 search trial completed")
    assert not starts(study_data([trial(0, [0.5], TrialState.RUNNING)]), "Only")


@pytest.mark.parametrize(
    ("value", "domain", "edge"),
    [
        (0.9, Range(0.1, 0.9), "upper"),
        (0.1, Range(0.1, 0.9), "lower"),
        (0.5, Range(0.1, 0.9), None),
        (0.0, Range(0.0, 0.9), None),
        (1e-3, Range(1e-3, 1.0, log=True), "lower"),
        (0.03, Range(1e-3, 1.0, log=True), None),
        (64, Choices((16, 64, 32)), "upper"),
        (16, Choices((16, 64, 32)), "lower"),
        (32, Choices((16, 64, 32)), None),
        (16, Choices((16, 32)), None),
        ("a", Choices(("a", "b", "c")), None),
        (True, Choices((True, False)), None),
        (5.0, Range(0.1, 0.9), None),
        (3, Range(3, 3), None),
    ],
)
def test_edge_of_a_domain(value: Value, domain: Choices | Range, edge: str | None) -> None:
    assert edge_of(value, domain) == edge


def test_best_trial_at_the_edge_of_a_range() -> None:
    trials = [trial(n, [0.5 + n], point={"momentum": 0.9 - n / 50}) for n in range(5)]
    assert starts(
        study_data(trials), "The best trials have momentum at the upper end of its range, trial 0 0.9"
    )
    by_chance = [trial(n, [0.5 + n], point={"momentum": 0.9 - n / 10}) for n in range(5)]
    assert not starts(study_data(by_chance), "The best trials have")


def test_differences_below_the_noise() -> None:
    noisy = study_data([trial(n, [0.5 + n / 100], error=0.1) for n in range(3)])
    assert starts(noisy, "2 of 2 other completed trials are not known to be worse than trial 0")
    assert not starts(study_data([trial(n, [0.5 + n / 100]) for n in range(3)]), "2 of 2")


def test_curves_that_cross() -> None:
    crossing = study_data([trial(n, [1 - n / 100, 0.5, 0.3 + n / 100]) for n in range(10)])
    assert starts(crossing, "Learning curves cross: the rank correlation of epoch 1 and the end is -1.00")
    few = study_data([trial(n, [1 - n / 100, 0.5, 0.3 + n / 100]) for n in range(7)])
    assert not starts(few, "Learning curves cross")


def test_first_rung_of_each_pruner() -> None:
    assert first_rung(study_data([])) == 1
    pause = load(TEXT.replace('name = "asha"', 'name = "pause"\nmin_epochs = 2'))
    assert first_rung(study_data([], pause)) == 2
    assert first_rung(study_data([], load(TEXT.replace('name = "asha"', 'name = "none"')))) is None


def test_many_failures_have_a_reason_and_a_way_out() -> None:
    failed = [trial(n, [], TrialState.FAIL, reason="ValueError: no") for n in range(2)]
    data = study_data([*failed, *(trial(n, [0.5]) for n in range(2, 12))])
    assert starts(
        data, "2 of 12 ended trials failed (17% (95% interval 5% to 45%)), trial 0 with ValueError: no"
    )
    assert "hpo study retry small" in " ".join(said(data))
    one = study_data([failed[0], *(trial(n, [0.5]) for n in range(1, 12))])
    assert not any("failed" in sentence for sentence in said(one))


def test_lost_workers_foreign_trials_and_broken_searches() -> None:
    foreign = [("search", Foreign(7, 7, TrialState.COMPLETE, {}, "hpo did not add it"))]
    stopped = {"search": Stopped("failures", "5 trials failed")}
    data = study_data([], events=[event(0, 0, "lost")] * 2, foreign=foreign, stopped=stopped)
    assert starts(data, "Workers were lost 2 times with a trial")
    assert starts(data, "This page leaves out 1 trial of other programs.")
    assert said(data)[0] == "The search stopped because its trials fail: 5 trials failed."
