"""The history: every trial in order, and the best so far against the device time."""

from collections.abc import Sequence

from optuna.trial import TrialState

from hpo.report.blocks import Figure, Section, Text
from hpo.report.costs import cumulated
from hpo.report.plots import BLACK, STATE_STYLES, Trace, axis, layout, lines, numbers, points
from hpo.report.ranges import axis_range
from hpo.report.study_data import StudyData
from hpo.report.wording import axis_title, hover
from hpo.study.history import TrialHistory
from hpo.values.objective import Objective


def history(data: StudyData) -> Section | None:
    """Return the values of all search trials in the order of their numbers and over the device time."""
    trials = [trial for trial in data.trials("search") if trial.row.value is not None]
    if not trials:
        return None
    title, objective = axis_title(data.study), data.objective
    y = axis(
        title, **axis_range([trial.row.value for trial in trials if trial.row.value is not None], objective)
    )
    by_number = Figure(
        "Objective of each search trial by number. The line is the best completed trial so far.",
        [*_states(trials, objective), _best_so_far(trials, objective)],
        layout(axis("number of the trial", rangemode="tozero"), y),
    )
    blocks: list[Text | Figure] = [
        Text(
            [
                "A pruned trial has the value of its last epoch, which is not comparable with that of a "
                "completed trial."
            ]
            if data.count("search", TrialState.PRUNED)
            else []
        ),
        by_number,
    ]
    if over_time := best_over_seconds(data, data.study.name):
        blocks.append(
            Figure(
                "Best completed trial against the device seconds of training and evaluation.",
                [over_time],
                layout(
                    axis("device seconds", rangemode="tozero"),
                    axis(title, **axis_range(over_time["y"], objective)),
                    320,
                ),
            )
        )
    return Section("history", "History", [block for block in blocks if not _is_empty(block)])


def _is_empty(block: Text | Figure) -> bool:
    return isinstance(block, Text) and not block.sentences


def _states(trials: Sequence[TrialHistory], objective: Objective) -> list[Trace]:
    traces = []
    for state, style in STATE_STYLES.items():
        chosen = [trial for trial in trials if trial.row.state.name == state]
        if chosen:
            x = [trial.row.number for trial in chosen]
            y = numbers(trial.row.value for trial in chosen)
            text = hover(chosen, objective)
            traces.append(points(state.lower(), x, y, style, text=text, hoverinfo="text"))
    return traces


def _best_so_far(trials: Sequence[TrialHistory], objective: Objective) -> Trace:
    x, y = steps(
        [
            (float(trial.row.number), trial.row.value)
            for trial in trials
            if trial.row.state == TrialState.COMPLETE and trial.row.value is not None
        ],
        objective,
    )
    return lines("best so far", x, y, BLACK, line={"shape": "hv", "width": 2}, hoverinfo="skip")


def steps(
    values: Sequence[tuple[float, float]], objective: Objective
) -> tuple[list[float], list[float | None]]:
    """Return the points at which the best value so far changes, and the last point. `values` are in order."""
    x: list[float] = []
    y: list[float] = []
    for at, value in values:
        if not y or objective.cost(value) < objective.cost(y[-1]):
            x.append(at)
            y.append(value)
    if values and values[-1][0] != x[-1]:
        x.append(values[-1][0])
        y.append(y[-1])
    return [float(f"{at:.6g}") for at in x], numbers(y)


def best_over_seconds(data: StudyData, name: str, colour: str = BLACK) -> Trace | None:
    """Return the best completed search trial so far against the device seconds, None without any."""
    seconds = cumulated(data.trials("search"))
    ended = sorted(
        (seconds[trial.row.number], trial.row.value)
        for trial in data.trials("search")
        if trial.row.state == TrialState.COMPLETE
        and trial.row.value is not None
        and trial.row.record.is_trained
        and trial.row.number in seconds
    )
    if not ended:
        return None
    x, y = steps(ended, data.objective)
    return lines(name, x, y, colour, mode="lines+markers", line={"shape": "hv", "width": 2})
