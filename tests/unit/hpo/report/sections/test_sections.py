"""Figures and sentences of the other sections."""

from __future__ import annotations

import math

import pytest
from optuna.trial import TrialState
from support.report_data import event, study_data, trial
from support.study_file import TEXT, load

from hpo.report.blocks import Block, Figure, Figures, Section, Table, Text
from hpo.report.sections.curves import HIGHLIGHTED, MAX_OTHERS, curves
from hpo.report.sections.effects import effects
from hpo.report.sections.history import history, steps
from hpo.report.sections.importance import importance
from hpo.report.sections.parallel import parallel
from hpo.report.sections.predictions import predictions
from hpo.report.sections.promoted import promoted
from hpo.report.sections.provenance import provenance
from hpo.report.sections.usage import usage
from hpo.study.history import TrialHistory
from hpo.values.objective import LOSS, OBJECTIVES


def blocks(section: Section | None) -> list[Block]:
    assert section is not None
    return [*section.blocks]


def text(section: Section | None) -> str:
    return " ".join(line for block in blocks(section) if isinstance(block, Text) for line in block.sentences)


def figure(section: Section | None) -> Figure:
    return next(block for block in blocks(section) if isinstance(block, Figure))


def names(figure: Figure) -> list[str]:
    return [trace["name"] for trace in figure.traces]


def test_best_so_far_improves_in_steps() -> None:
    assert steps([(0, 0.5), (1, 0.6), (2, 0.4), (5, 0.7)], LOSS) == ([0, 2, 5], [0.5, 0.4, 0.4])
    assert steps([(0, 0.5), (1, 0.6)], OBJECTIVES["accuracy"]) == ([0, 1], [0.5, 0.6])


def test_history_tells_the_states_apart() -> None:
    data = study_data([trial(0, [0.5]), trial(1, [0.4], TrialState.PRUNED), trial(2, [0.3])])
    first, second = (block for block in blocks(history(data)) if isinstance(block, Figure))
    assert names(first) == ["complete", "pruned", "best so far"]
    assert len({trace["marker"]["symbol"] for trace in first.traces[:2]}) == 2
    (best,) = second.traces
    assert (best["x"], best["y"]) == ([2.0, 6.0], [0.5, 0.3])


def test_curves_mark_pauses_and_ends() -> None:
    trials = [
        trial(0, [0.5, 0.4, 0.3]),
        trial(1, [0.6, 0.5], TrialState.PRUNED),
        trial(2, [0.7, math.nan], TrialState.FAIL),
        trial(3, [0.8], TrialState.RUNNING),
        trial(0, [0.2], stage="full"),
    ]
    data = study_data(trials, events=[event(1, 0, "paused", epoch=1), event(2, 0, "paused")])
    search, full = (block for block in blocks(curves(data)) if isinstance(block, Figure))
    assert set(names(search)) == {"paused", "pruned", "failed", "running", *(f"trial {n}" for n in range(4))}
    marks = {trace["name"]: (trace["x"], trace["y"]) for trace in search.traces}
    assert marks["paused"] == ([1], [0.5])
    assert marks["pruned"] == ([2], [0.5])
    assert marks["failed"] == ([1], [0.7])
    assert names(full) == ["trial 0"]


def test_curves_of_a_large_study_are_a_few_traces() -> None:
    count = HIGHLIGHTED + 2 * MAX_OTHERS
    data = study_data([trial(n, [1.0 + n, 0.5 + n]) for n in range(count)])
    drawn = figure(curves(data))
    assert len(drawn.traces) == 7
    assert names(drawn)[:2] == ["other trials", "best 50"]
    assert drawn.traces[0]["y"].count(None) == MAX_OTHERS
    assert f"leaves out {MAX_OTHERS} curves" in text(curves(data))


def test_prediction_of_exact_power_laws_is_covered() -> None:
    spec = load(TEXT.replace('name = "asha"', 'name = "pause"'))
    trials = [trial(n, [(0.5 + n / 10) * epoch**-0.4 for epoch in (1, 2, 3)]) for n in range(6)]
    section = predictions(study_data(trials, spec))
    assert "With 1 epoch known, 6 of 6 ends lie in the 95% interval of the prediction: 100%" in text(section)
    assert "rank correlation is 1.00" in text(section)
    points, _, line = figure(section).traces
    assert points["x"] == pytest.approx(points["y"], rel=1e-5)
    assert line["name"] == "equal"


def test_study_without_completed_trials_has_no_predictions() -> None:
    assert predictions(study_data([trial(0, [0.5], TrialState.PRUNED)])) is None


def varied(count: int, *, noise: bool = False) -> list[TrialHistory]:
    """Return trials whose end depends on the learning rate alone, or on nothing."""
    return [
        trial(
            n,
            [0.5, 0.4, (n * 37 % 11) / 10 + 0.1 if noise else 0.1 + 0.5 * (n % 2) + (n * 7 % 10) / 1000],
            point={
                "lr": [1e-3, 1e-2][n % 2],
                "batch_size": [16, 32][n // 2 % 2],
                "momentum": n * 13 % 40 / 50,
            },
        )
        for n in range(count)
    ]


def test_importance_finds_the_parameter_that_matters() -> None:
    section = importance(study_data(varied(40)))
    assert "lr matters most" in text(section)
    (bars,) = figure(section).traces
    assert bars["y"][-1] == "lr"
    assert bars["x"][-1] > 0.9


def test_importance_of_noise_is_called_so() -> None:
    assert "importances mean little here" in text(importance(study_data(varied(40, noise=True))))


def test_importance_of_few_trials_is_refused() -> None:
    assert text(importance(study_data(varied(19)))) == (
        "19 trials are too few to say which of 3 parameters matter: 20 are needed."
    )
    assert importance(study_data([])) is None


def test_effects_have_medians_of_each_choice() -> None:
    figures = next(block for block in blocks(effects(study_data(varied(40)))) if isinstance(block, Figures))
    lr, _, momentum = figures.figures
    medians = next(trace for trace in lr.traces if trace["name"] == "median")
    assert medians["x"] == ["0.001", "0.01"]
    assert medians["y"] == pytest.approx([0.1045, 0.6045], abs=0.005)
    assert lr.layout["xaxis"]["type"] == "category"
    assert len(next(trace for trace in momentum.traces if trace["name"] == "median")["x"]) == 6


def test_parallel_coordinates_have_gaps_where_a_parameter_does_not_apply() -> None:
    trials = varied(12)
    del trials[0].row.point["momentum"]
    drawn = figure(parallel(study_data(trials)))
    assert drawn.layout["xaxis"]["ticktext"] == ["lr", "batch_size", "momentum", "loss"]
    best = next(trace for trace in drawn.traces if trace["name"] == "trial 10")
    assert best["y"][:2] == [0.0, 1.0]


def test_usage_says_what_pausing_saved() -> None:
    spec = load(TEXT.replace("epochs = 3", "epochs = 4"))
    data = study_data(
        [trial(0, [0.5] * 4), trial(1, [0.5, 0.5], TrialState.PRUNED)],
        spec,
        seconds={"search": {"training": 9.0, "evaluation": 3.0, "idle": 4.0}, "full": {}},
    )
    section = usage(data)
    assert "Workers computed for 75% of 16.0 s" in text(section)
    assert "left out 2 epochs of the search, which would have taken 4.0 s ± 0.0 s of computing: 25%" in text(
        section
    )
    table = next(block for block in blocks(section) if isinstance(block, Table))
    assert table.rows == [["training", "9.0"], ["evaluation", "3.0"], ["idle", "4.0"], ["all", "16.0"]]
    assert usage(study_data([])) is None


def test_promoted_trials_have_their_trainings_and_a_correlation() -> None:
    search = [trial(n, [0.5 + n / 100], error=0.01) for n in range(6)]
    full = [
        trial(n, [0.1 + (n // 2) / 10 + n % 2 / 100], stage="full", promoted_from=n // 2) for n in range(12)
    ]
    section = promoted(study_data([*search, *full]))
    assert "6 search trials became 12 full trainings." in text(section)
    assert "The rank correlation of both stages is 1.00" in text(section)
    table = next(block for block in blocks(section) if isinstance(block, Table))
    assert table.rows[0][:4] == ["0", "1", "0.5000 ± 0.0196", "0.1050 ± 0.0635"]
    assert table.rows[0][4] == "0: 0.1000, epoch 1; 1: 0.1100, epoch 1"
    assert promoted(study_data(search)) is None


def test_provenance_names_workers_and_the_study_file() -> None:
    section = provenance(
        study_data([trial(0, [0.5])], events=[event(0, 0, "claimed", "gpu/3")], origin="older")
    )
    rows = next(block.rows for block in section.blocks if isinstance(block, Table))
    table = {row[0]: row[1] for row in rows}
    assert table["workers"] == "gpu/3"
    assert table["devices"] == "cpu"
    assert table["forked from"] == "older, 0 trials inherited"
