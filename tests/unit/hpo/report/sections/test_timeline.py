"""Spans of trials on workers."""

from __future__ import annotations

from support.report_data import at, event, study_data, trial

from hpo.report.blocks import Figure, Text
from hpo.report.sections.timeline import RUNNING, spans, timeline
from hpo.store.events import Event

HISTORY = [
    event(0, 0, "claimed", "a"),
    event(0, 1, "claimed", "a"),
    event(5, 0, "paused", "a", epoch=1),
    event(6, 1, "lost", "a"),
    event(7, 1, "taken over", "b", epoch=1),
    event(8, 0, "resumed", "a", epoch=1),
    event(9, 1, "completed", "b", epochs=3),
    event(9, 2, "claimed", "b"),
]


def ends(events: list[Event]) -> list[tuple[str, int, float, float, str]]:
    found = spans([("search", event) for event in events], at(100))
    start = at(0)
    return [
        (s.worker, s.trial, (s.begin - start).total_seconds(), (s.until - start).total_seconds(), s.end)
        for s in found
    ]


def test_spans_end_with_what_happened() -> None:
    assert ends(HISTORY) == [
        ("a", 0, 0, 5, "paused"),
        ("a", 1, 0, 6, "lost"),
        ("b", 1, 7, 9, "completed"),
        ("a", 0, 8, 100, RUNNING),
        ("b", 2, 9, 100, RUNNING),
    ]


def test_event_without_its_beginning_is_left_out() -> None:
    assert ends([event(1, 0, "completed"), event(2, 0, "promoted", None), event(3, 1, "claimed", None)]) == []


def test_trials_of_a_pack_lie_side_by_side_and_takeovers_are_marked() -> None:
    section = timeline(study_data([trial(0, [0.5])], events=HISTORY))
    assert section is not None
    text, figure = section.blocks
    assert isinstance(text, Text)
    assert isinstance(figure, Figure)
    assert text.sentences[0] == "2 workers trained 3 trials."
    assert text.sentences[1] == "Trials lost their worker 1 time and were taken over 1 time."
    by_name = {trace["name"]: trace for trace in figure.traces}
    assert by_name["paused"]["y"][0] == 0
    assert by_name["lost"]["y"][0] == 1
    assert by_name["worker lost"]["y"] == [1]
    assert by_name["taken over"]["x"] == ["2026-03-01 12:00:07.000000"]
    assert figure.layout["yaxis"]["ticktext"] == ["a", "b"]


def test_study_without_events_has_no_timeline() -> None:
    assert timeline(study_data([])) is None
