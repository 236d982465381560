"""The sentences at the top of a report."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.trial import TrialState
from support.report_data import study_data, trial
from support.study_file import FUNCTION_TEXT, TEXT, load

from hpo.report.blocks import Section, Table, Text
from hpo.report.sections.summary import summary
from hpo.report.study_data import StudyData
from hpo.study.lifecycle import BY_USER, Stopped
from hpo.values.objective import Objective


def sentences(section: Section) -> str:
    return " ".join(line for block in section.blocks if isinstance(block, Text) for line in block.sentences)


def said(data: StudyData) -> str:
    return sentences(summary(data))


def test_difference_within_its_interval_is_not_known_to_be_better() -> None:
    close = [trial(0, [0.5, 0.300], error=0.003), trial(1, [0.5, 0.306], error=0.004)]
    assert "Trial 0 beats the second, trial 1, by 0.0060 ± 0.0098: not known to be better." in said(
        study_data(close)
    )
    far = [trial(0, [0.5, 0.200], error=0.003), trial(1, [0.5, 0.306], error=0.004)]
    assert "by 0.1060 ± 0.0098: better." in said(study_data(far))


def test_metric_without_an_error_has_no_verdict() -> None:
    data = study_data([trial(0, [0.3]), trial(1, [0.4])])
    assert "by 0.1000, with an unknown error: whether it is better is not known." in said(data)
    assert "The metrics have no standard error" in said(data)


def test_gain_is_measured_from_the_initial_trials() -> None:
    spec = load(TEXT.replace('name = "tpe"', 'name = "tpe"\nstartup = 2'))
    initial = [trial(0, [0.5], error=0.003), trial(1, [0.6], TrialState.PRUNED)]
    better = said(study_data([*initial, trial(2, [0.3], error=0.004)], spec))
    assert "gained 0.2000 ± 0.0098 over the best of the 2 initial trials that completed, trial 0" in better
    worse = said(study_data([*initial, trial(2, [0.7], error=0.004)], spec))
    assert "The best trial is one of the 2 initial trials" in worse
    none = said(study_data([initial[1], trial(2, [0.7])], spec))
    assert "None of the 2 initial trials completed" in none


def test_baseline_takes_the_place_of_the_initial_trials() -> None:
    given = "[baseline]\nlr = 1e-3\nbatch_size = 16\nmomentum = 0.5\n"
    data = study_data([trial(0, [0.5], error=0.003), trial(1, [0.3], point={"lr": 1e-2})], load(TEXT + given))
    assert "Trial 1 is not known to be better than your baseline (trial 0, loss 0.5000)" in said(data)
    assert "initial" not in said(data)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], "The search is not finished: 12 trials of 12 have not ended, and no worker runs."),
        ([TrialState.RUNNING], "The study is running: 1 trial on 0 workers"),
        ([TrialState.COMPLETE] * 12, "The search is finished, and no trial is promoted yet."),
        ([TrialState.FAIL] * 12, "12 search trials ended and none completed, so there is no best trial."),
    ],
)
def test_every_state_of_a_study_has_its_sentence(states: list[TrialState], words: str) -> None:
    trials = [trial(number, [0.5], state) for number, state in enumerate(states)]
    assert words in said(study_data(trials))


def test_stopped_study_says_why() -> None:
    stopped = {"search": Stopped("rule", "target 0.1 reached by trial 0 (0.09)")}
    data = study_data([trial(0, [0.09])], stopped=stopped)
    assert "The search is stopped: target 0.1 reached by trial 0 (0.09)." in said(data)
    assert "stopped by hand" in said(replace(data, stopped={"full": BY_USER}))


def test_single_trial_has_no_comparison() -> None:
    assert "There is no second completed trial to compare it with." in said(study_data([trial(0, [0.5])]))


def test_maximised_metric_of_a_function() -> None:
    accuracy = Objective("accuracy", "maximize", "accuracy")
    point = {"depth": 2, "optimizer": "lion", "lr": 1e-3}
    trials = [trial(n, [value], objective=accuracy, point=point) for n, value in enumerate((0.7, 0.9))]
    text = said(study_data(trials, load(FUNCTION_TEXT)))
    assert "The best of 2 completed search trials is trial 1 with accuracy 0.9" in text
    assert "Trial 1 beats the second, trial 0, by 0.2, with an unknown error" in text


def test_table_has_the_best_trials_with_their_distance_to_the_best() -> None:
    data = study_data([trial(n, [0.5 - n / 100], error=0.003) for n in range(12)])
    (table,) = [block for block in summary(data).blocks if isinstance(block, Table)]
    assert len(table.rows) == 10
    assert table.rows[0][:3] == ["11", "0.3900 ± 0.0059", ""]
    assert table.rows[1][2] == "0.0100 ± 0.0083"


def test_budget_and_time() -> None:
    data = study_data(
        [trial(0, [0.5, 0.4, 0.3]), trial(1, [0.6], TrialState.PRUNED)],
        seconds={"search": {"training": 90.0, "idle": 30.0}, "full": {}},
    )
    text = said(data)
    assert "The search has 2 of 12 trials: 1 completed, 1 pruned." in text
    assert "They trained 4 epochs, 67% of the 6 epochs of 2 whole trials." in text
    assert "The study took 2.0 min of device time" in text
    assert "From the first start to the last end it took 12.0 s." in text
