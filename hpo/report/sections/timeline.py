"""The timeline: which worker had which trial when, with pauses, losses and takeovers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hpo.report.blocks import Block, Figure, Section, Text
from hpo.report.plots import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Trace,
    axis,
    label,
    layout,
    points,
    time,
)
from hpo.report.study_data import StudyData
from hpo.store.events import Event
from hpo.values.stage import Stage
from hpo.values.wording import counted

BEGINS = ("claimed", "resumed", "taken over")
ENDS: Mapping[str, str] = {
    "completed": BLUE,
    "paused": SKY,
    "pruned": ORANGE,
    "failed": VERMILION,
    "lost": BLACK,
    "released": GREEN,
    "handed back": PURPLE,
}
"""What ends the time of a trial on a worker, and the colour of that time."""

RUNNING = "running"
DASHES: Mapping[str, str] = {"lost": "dot", "released": "dash", "handed back": "dashdot"}
MAX_WORKERS = 60
LANE, GAP = 14, 12
"""Pixels of a trial beside others on the same worker, and between workers."""


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a worker had a trial; `end` is one of `ENDS` or `RUNNING`."""

    worker: str
    stage: Stage
    trial: int
    begin: datetime
    until: datetime
    end: str


def timeline(data: StudyData) -> Section | None:
    """Return the spans of all trials on their workers."""
    known = spans(data.events, data.now)
    if not known:
        return None
    workers = list(dict.fromkeys(span.worker for span in known))
    shown = workers[:MAX_WORKERS]
    rows, lanes = _rows([span for span in known if span.worker in shown], shown)
    traces = [*_traces(rows), *_marks(data.events, rows)]
    middles = [lanes[worker] for worker in shown]
    y = axis(
        "",
        tickvals=[round(sum(ends) / 2, 2) for ends in middles],
        ticktext=[label(worker, 24) for worker in shown],
        autorange="reversed",
        showgrid=False,
    )
    height = int(140 + sum((high - low + 1) * LANE + GAP for low, high in middles))
    figure = Figure(
        "Each line is a trial on a worker. Its colour says how that time ended.",
        traces,
        layout(axis("UTC", type="date"), y, min(height, 1400)),
    )
    return Section("timeline", "Timeline", [_text(data, known, workers), figure])


def spans(events: Sequence[tuple[Stage, Event]], now: datetime) -> list[Span]:
    """Return which worker had which trial when. An event without its counterpart is left out."""
    open_: dict[tuple[Stage, int], Event] = {}
    result = []
    for stage, event in events:
        key = (stage, event.trial)
        if event.kind in BEGINS and event.worker is not None:
            open_[key] = event
        elif event.kind in ENDS and (begin := open_.pop(key, None)) is not None:
            result.append(Span(str(begin.worker), stage, event.trial, begin.at, event.at, event.kind))
    for (stage, trial), begin in open_.items():
        result.append(Span(str(begin.worker), stage, trial, begin.at, max(now, begin.at), RUNNING))
    return sorted(result, key=lambda span: (span.begin, span.until))


def _rows(
    known: Sequence[Span], workers: Sequence[str]
) -> tuple[list[tuple[Span, float]], dict[str, tuple[float, float]]]:
    """Return each span with its height, and the lowest and highest of each worker.

    Spans at the same time lie side by side.
    """
    free: dict[str, list[datetime]] = {worker: [] for worker in workers}
    places = []
    for span in known:
        ends = free[span.worker]
        lane = next((index for index, end in enumerate(ends) if end <= span.begin), len(ends))
        ends[lane:] = [span.until, *ends[lane + 1 :]]
        places.append((span, lane))
    starts, height = {}, 0.0
    for worker in workers:
        starts[worker] = height
        height += max(1, len(free[worker])) + GAP / LANE
    lanes = {worker: (starts[worker], starts[worker] + max(1, len(free[worker])) - 1) for worker in workers}
    return [(span, starts[span.worker] + lane) for span, lane in places], lanes


def _traces(rows: Sequence[tuple[Span, float]]) -> list[Trace]:
    traces = []
    for end, colour in {**ENDS, RUNNING: GREEN}.items():
        chosen = [(span, height) for span, height in rows if span.end == end]
        if not chosen:
            continue
        x: list[str | None] = []
        y: list[float | None] = []
        text: list[str] = []
        for span, height in chosen:
            x += [time(span.begin), time(span.until), None]
            y += [round(height, 2), round(height, 2), None]
            text += [f"{span.stage} trial {span.trial}: {end}"] * 3
        traces.append(
            {
                **{"type": "scatter", "mode": "lines", "name": end, "x": x, "y": y, "connectgaps": False},
                "line": {"color": colour, "width": 7, "dash": DASHES.get(end, "solid")},
                **{"text": text, "hoverinfo": "text+x"},
            }
        )
    return traces


def _marks(events: Sequence[tuple[Stage, Event]], rows: Sequence[tuple[Span, float]]) -> list[Trace]:
    """Return marks where workers were lost, and where others took their trials over."""
    heights = {(span.stage, span.trial, span.begin): height for span, height in rows}
    ends = {(span.stage, span.trial, span.until): height for span, height in rows}
    kinds = (("taken over", heights, (GREEN, "triangle-right")), ("lost", ends, (VERMILION, "x")))
    traces = []
    for kind, places, style in kinds:
        found = [
            (event, height)
            for stage, event in events
            if event.kind == kind and (height := places.get((stage, event.trial, event.at))) is not None
        ]
        if found:
            x = [time(event.at) for event, _ in found]
            y = [round(height, 2) for _, height in found]
            text = [f"trial {event.trial} {kind}" for event, _ in found]
            name = "worker lost" if kind == "lost" else kind
            traces.append(points(name, x, y, style, text=text, hoverinfo="text+x", marker={"size": 11}))
    return traces


def _text(data: StudyData, known: Sequence[Span], workers: Sequence[str]) -> Block:
    kinds = [event.kind for _, event in data.events]
    lost, taken = kinds.count("lost"), kinds.count("taken over")
    trials = {(span.stage, span.trial) for span in known}
    sentences = [f"{counted(len(workers), 'worker')} trained {counted(len(trials), 'trial')}."]
    if lost or taken:
        sentences.append(
            f"Trials lost their worker {counted(lost, 'time')} and were taken over {counted(taken, 'time')}."
        )
    if len(workers) > MAX_WORKERS:
        sentences.append(f"The figure shows the first {MAX_WORKERS} workers.")
    return Text(sentences)
