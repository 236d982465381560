"""Two studies compared."""

from __future__ import annotations

from support.report_data import study_data, trial
from support.study_file import FUNCTION_TEXT, TEXT, load

from hpo.report.blocks import Figure, Section, Table, Text, Warnings
from hpo.report.comparison import compare_studies
from hpo.report.page import render
from hpo.report.study_data import StudyData
from hpo.spec.study_spec import StudySpec


def named(name: str, text: str = TEXT) -> StudySpec:
    return load(f'name = "{name}"\n{text}')


def sections(first: StudyData, second: StudyData) -> dict[str, Section]:
    report = compare_studies(first, second)
    render(report, plotly="plotly.js")
    return {section.anchor: section for section in report.sections}


def said(section: Section) -> str:
    return " ".join(
        line for block in section.blocks if isinstance(block, Text | Warnings) for line in block.sentences
    )


FIRST = study_data([trial(0, [0.5], error=0.003), trial(1, [0.4], error=0.003)], named("first"))


def test_difference_has_its_interval() -> None:
    second = study_data([trial(0, [0.3], error=0.004)], named("second"))
    text = said(sections(FIRST, second)["summary"])
    assert "The best search trial of first is trial 1, of 2, with loss 0.4000 ± 0.0059." in text
    assert "second is better than first: by 0.1000 ± 0.0098." in text
    close = study_data([trial(0, [0.401], error=0.004)], named("second"))
    assert "first is not known to be better than second: by 0.0010 ± 0.0098." in said(
        sections(FIRST, close)["summary"]
    )


def test_other_objective_is_not_compared() -> None:
    made = sections(FIRST, study_data([], named("second", FUNCTION_TEXT)))
    assert "loss (minimize) and accuracy (maximize): their values cannot be compared" in said(made["summary"])
    assert "progress" not in made
    assert "train different code: lenet and train:fit" in said(made["summary"])


def test_study_without_completed_trials() -> None:
    made = sections(FIRST, study_data([], named("second")))
    assert "No search trial of second has completed." in said(made["summary"])
    assert "better" not in said(made["summary"])


def test_files_parameters_and_progress_are_side_by_side() -> None:
    longer = TEXT.replace("epochs = 3", "epochs = 4").replace('name = "tpe"', 'name = "random"')
    second = study_data([trial(0, [0.3], point={"lr": 1e-2})], named("second", longer))
    made = sections(FIRST, second)
    (table,) = made["differences"].blocks
    assert isinstance(table, Table)
    assert ["search.epochs", "3", "4"] in [[*row] for row in table.rows]
    assert ["sampler.name", "tpe", "random"] in [[*row] for row in table.rows]
    assert "name" not in [row[0] for row in table.rows]
    (parameters,) = made["parameters"].blocks
    assert isinstance(parameters, Table)
    assert [*parameters.rows[0]] == ["lr", "0.001", "0.01"]
    (figure,) = made["progress"].blocks
    assert isinstance(figure, Figure)
    assert [trace["name"] for trace in figure.traces] == ["first", "second"]
    assert "A search trial has 3 epochs in first and 4 in second" in said(made["summary"])
    assert said(sections(FIRST, study_data([], named("second")))["differences"]) == (
        "The study files differ in the name alone."
    )
