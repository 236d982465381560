"""Predicted against actual ends of learning curves."""

from hpo.report.blocks import Block, Figure, Section, Text
from hpo.report.ends import End, ends
from hpo.report.plots import BLACK, COLOURS, SYMBOLS, Trace, axis, layout, lines, number, numbers, points
from hpo.report.statistics import rank_correlation, share
from hpo.report.study_data import StudyData
from hpo.report.wording import axis_title
from hpo.values.wording import counted

MAX_POINTS = 500
"""Trials of one rung in the figure."""

Pair = tuple[End, float]
"""A prediction, and the value that the trial ended with."""


def predictions(data: StudyData) -> Section | None:
    """Return how well the curve model predicts the ends of completed trials from their first epochs."""
    epochs = data.study.spec.search.epochs
    rungs = data.study.spec.make_pruner().pause_epochs or ((epochs // 3 or 1,) if epochs > 1 else ())
    values = {trial.row.number: trial.row.value for trial in data.completed("search")}
    by_rung: dict[int, list[Pair]] = {}
    for rung in rungs if values else ():
        pairs = [
            (end, value)
            for end in ends(data, known_epochs=rung)
            if (value := values.get(end.trial.row.number)) is not None
        ]
        if pairs:
            by_rung[rung] = pairs
    if not by_rung:
        return None
    blocks: list[Block] = [
        Text(
            [
                "The search extrapolates each curve to the last epoch, and decides by this prediction which "
                "paused trials resume.",
                *(_sentence(data, rung, pairs) for rung, pairs in by_rung.items()),
                "Only completed trials can be compared, and they are those that looked good.",
            ]
        ),
        _figure(data, by_rung),
    ]
    return Section("predictions", "Predicted ends", blocks)


def _sentence(data: StudyData, rung: int, pairs: list[Pair]) -> str:
    inside = sum(end.low <= value <= end.high for end, value in pairs)
    covered = share(inside, len(pairs))
    cost = data.objective.cost
    correlation = rank_correlation([(cost(end.value), cost(value)) for end, value in pairs])
    order = "" if correlation is None else f", and the rank correlation is {correlation.describe()}"
    return (
        f"With {counted(rung, 'epoch')} known, {inside} of {counted(len(pairs), 'end')} "
        f"{'lies' if inside == 1 else 'lie'} in the 95% interval of the prediction: "
        f"{covered.describe('.0%')}{order}."
    )


def _figure(data: StudyData, by_rung: dict[int, list[Pair]]) -> Figure:
    traces: list[Trace] = []
    for index, (rung, pairs) in enumerate(by_rung.items()):
        shown = pairs[:: max(1, -(-len(pairs) // MAX_POINTS))]
        style = (COLOURS[index % len(COLOURS)], SYMBOLS[index % len(SYMBOLS)])
        trace = points(
            f"after epoch {rung}",
            numbers(end.value for end, _ in shown),
            numbers(value for _, value in shown),
            style,
            text=[f"trial {end.trial.row.number}" for end, _ in shown],
            hoverinfo="text+x+y",
        )
        if len(shown) <= 50:  # more bars hide the points
            trace["error_x"] = {
                "type": "data",
                "symmetric": False,
                "array": numbers(end.high - end.value for end, _ in shown),
                "arrayminus": numbers(end.value - end.low for end, _ in shown),
                "thickness": 0.8,
                "width": 2,
            }
        traces.append(trace)
    values = [each for pairs in by_rung.values() for end, value in pairs for each in (end.value, value)]
    ends_of_line = [number(min(values)), number(max(values))]
    traces.append(lines("equal", ends_of_line, ends_of_line, BLACK, line={"dash": "dot", "width": 1}))
    title = axis_title(data.study)
    caption = "Actual against predicted ends. Bars are 95% intervals. Points on the dotted line are exact."
    return Figure(caption, traces, layout(axis(f"predicted {title}"), axis(f"actual {title}"), 420))
