"""Whole reports of studies of every kind."""

from __future__ import annotations

import json

import pytest
from optuna.trial import TrialState
from support.report_data import event, study_data, trial
from support.study_file import FUNCTION_TEXT, TEXT, load

from hpo.report.blocks import Figure
from hpo.report.page import figure_json
from hpo.report.report import make_report
from hpo.report.study_data import StudyData
from hpo.values.objective import Objective

ACCURACY = Objective("accuracy", "maximize", "accuracy")
FUNCTION_POINT = {"depth": 2, "optimizer": "lion", "lr": 1e-3}

STUDIES = {
    "empty": study_data([]),
    "waiting": study_data([trial(0, [], TrialState.WAITING)]),
    "one": study_data([trial(0, [0.5])]),
    "nothing completed": study_data([trial(0, [0.5], TrialState.PRUNED), trial(1, [], TrialState.FAIL)]),
    "constant": study_data([trial(n, [0.5, 0.5, 0.5], error=0.0) for n in range(12)]),
    "zero": study_data([trial(n, [0.0, 0.0, 0.0], error=0.0) for n in range(12)]),
    "huge": study_data([trial(n, [1e300, 10.0**n], error=1e300) for n in range(12)]),
    "paused": study_data(
        [trial(0, [0.5, 0.4], TrialState.WAITING, paused=2), trial(1, [0.3, 0.2, 0.1])],
        events=[event(0, 0, "claimed"), event(4, 0, "paused", epoch=2), event(9, 0, "paused", epoch="x")],
    ),
    "promoted": study_data(
        [
            *(trial(n, [0.5, 0.5 - n / 100], error=0.01, point={"momentum": n / 30}) for n in range(12)),
            *(trial(n, [0.1 + n / 50], stage="full", promoted_from=n // 2) for n in range(12)),
            trial(12, [], TrialState.RUNNING, stage="full", promoted_from=99),
        ]
    ),
    "function": study_data(
        [trial(n, [-1e9, n / 10], objective=ACCURACY, point=FUNCTION_POINT) for n in range(6)],
        load(FUNCTION_TEXT),
    ),
    "markup": study_data([trial(0, [0.5], point={"<b>&": "<img src=x>"})], load(TEXT)),
}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_report_that_plotly_draws(name: str) -> None:
    from plotly.graph_objects import Figure as Drawn

    report = make_report(STUDIES[name])
    assert report.sections[0].anchor == "summary"
    assert report.sections[-1].anchor == "provenance"
    assert all(section.blocks for section in report.sections)
    for figure in figures(STUDIES[name]):
        plain = json.loads(figure_json(figure))
        Drawn(data=plain["data"], layout=plain["layout"])  # raises for a key that Plotly does not know
        assert figure.caption


def figures(data: StudyData) -> list[Figure]:
    blocks = [block for section in make_report(data).sections for block in section.blocks]
    return [block for block in blocks if isinstance(block, Figure)]
