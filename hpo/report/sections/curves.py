"""Learning curves, with pauses, pruning and failures drawn in."""

from collections.abc import Mapping, Sequence

from optuna.trial import TrialState

from hpo.report.blocks import Block, Figure, Section, Text
from hpo.report.plots import (
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    SYMBOLS,
    VERMILION,
    Trace,
    axis,
    layout,
    lines,
    number,
    points,
    with_gaps,
)
from hpo.report.ranges import axis_range
from hpo.report.study_data import StudyData
from hpo.report.wording import axis_title
from hpo.study.history import TrialHistory
from hpo.values.objective import Objective
from hpo.values.stage import Stage
from hpo.values.wording import counted

NAMED, HIGHLIGHTED = 5, 50
"""Curves with a colour and a symbol of their own, and curves that stand out from the others."""

MAX_OTHERS = 2000
"""Other curves that are drawn."""

Curve = list[tuple[int, float]]


def curves(data: StudyData) -> Section | None:
    """Return the learning curves of both stages."""
    blocks = [block for stage in ("search", "full") for block in _stage(data, stage)]
    return Section("curves", "Learning curves", blocks) if blocks else None


def _stage(data: StudyData, stage: Stage) -> list[Block]:
    objective = data.objective
    all_curves = {trial.row.number: _curve(trial, objective) for trial in data.trials(stage)}
    trained = [trial for trial in data.trials(stage) if all_curves[trial.row.number]]
    if not trained:
        return []
    ranked = sorted(trained, key=lambda trial: _rank(trial, all_curves[trial.row.number], objective))
    best, rest = ranked[:HIGHLIGHTED], ranked[HIGHLIGHTED:]
    shown = rest[:: max(1, -(-len(rest) // MAX_OTHERS))]
    traces: list[Trace] = []
    if shown:
        x, y = with_gaps(map(_columns, (all_curves[trial.row.number] for trial in shown)))
        traces.append(lines("other trials", x, y, GREY, hoverinfo="skip", line={"width": 0.7}))
    if others := best[NAMED:]:
        x, y = with_gaps(map(_columns, (all_curves[trial.row.number] for trial in others)))
        names = [f"trial {trial.row.number}" for trial in others for _ in (*all_curves[trial.row.number], 0)]
        title = f"best {len(best)}" if rest else "other trials"
        traces.append(lines(title, x, y, SKY, text=names, hoverinfo="text+y", line={"width": 1}))
    traces += _ends(data, stage, [*best, *shown], all_curves)
    for index, trial in reversed([*enumerate(best[:NAMED])]):
        xs, ys = _columns(all_curves[trial.row.number])
        traces.append(
            lines(
                f"trial {trial.row.number}",
                *(xs, ys, COLOURS[index]),
                mode="lines+markers",
                marker={"symbol": SYMBOLS[index], "size": 6},
                line={"width": 2},
            )
        )
    values = [value for trial in trained for _, value in all_curves[trial.row.number]]
    y_axis = axis(axis_title(data.study), **axis_range(values, objective))
    name = "search trials" if stage == "search" else "full trainings"
    caption = (
        f"Learning curves of {len(trained)} {name}. Lines with symbols are the best {len(best[:NAMED])}."
    )
    figure = Figure(caption, traces, layout(axis("epoch", rangemode="tozero"), y_axis, 460))
    blocks: list[Block] = [figure]
    if len(shown) < len(rest):
        left_out = counted(len(rest) - len(shown), "curve")
        blocks.append(Text([f"The figure leaves out {left_out} of the other trials, evenly spread."]))
    return blocks


def _curve(trial: TrialHistory, objective: Objective) -> Curve:
    return [
        (epoch.epoch, value)
        for epoch in trial.curve
        if (value := number(epoch.metrics.get(objective.key))) is not None
    ]


def _columns(curve: Curve) -> tuple[list[int], list[float]]:
    return [epoch for epoch, _ in curve], [value for _, value in curve]


def _rank(trial: TrialHistory, curve: Curve, objective: Objective) -> tuple[bool, float]:
    """Return the order: completed trials by their objective, then the others by their last epoch."""
    is_complete = trial.row.state == TrialState.COMPLETE and trial.row.value is not None
    value = trial.row.value if is_complete and trial.row.value is not None else curve[-1][1]
    return not is_complete, objective.cost(value)


def _ends(
    data: StudyData, stage: Stage, shown: Sequence[TrialHistory], all_curves: Mapping[int, Curve]
) -> list[Trace]:
    """Return markers where trials paused, were pruned or failed."""
    numbers = {trial.row.number for trial in shown}
    paused: list[tuple[int, float]] = []
    for event_stage, event in data.events:
        if event_stage == stage and event.kind == "paused" and event.trial in numbers:
            paused += [point for point in all_curves[event.trial] if point[0] == event.detail.get("epoch")]
    pruned = [all_curves[trial.row.number][-1] for trial in shown if trial.row.state == TrialState.PRUNED]
    failed = [all_curves[trial.row.number][-1] for trial in shown if trial.row.state == TrialState.FAIL]
    running = [all_curves[trial.row.number][-1] for trial in shown if trial.row.state == TrialState.RUNNING]
    kinds = (
        ("paused", paused, (ORANGE, "line-ns-open")),
        ("pruned", pruned, (ORANGE, "x-thin-open")),
        ("failed", failed, (VERMILION, "triangle-down")),
        ("running", running, (GREEN, "diamond-open")),
    )
    return [
        points(name, *_columns(marks), style, marker={"size": 6}, hoverinfo="skip")
        for name, marks, style in kinds
        if marks
    ]
