"""The note of a study."""

from support.report_data import study_data
from support.study_file import FUNCTION_TEXT, load

from hpo.study.note import note_of


def test_reason_is_no_markdown() -> None:
    study = study_data([]).study
    note = note_of(study, "search", "ValueError: [x](http://evil)\n# <b>")
    assert r"State: stopped, ValueError: \[x\](http://evil) \# \<b\>. " in note
    assert "is better" in note


def test_objective_of_a_function_has_its_direction() -> None:
    note = note_of(study_data([], load(FUNCTION_TEXT)).study, "full")
    assert "Objective: accuracy, higher is better." in note
    assert "State" not in note
