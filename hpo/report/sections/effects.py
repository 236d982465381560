"""Marginal effects: the ends of the trials against each parameter."""

from collections.abc import Sequence

import numpy as np

from hpo.report.blocks import Block, Figure, Figures, Section, Text
from hpo.report.ends import End, ends
from hpo.report.plots import BLACK, BLUE, SKY, Trace, axis, label, layout, lines, number, numbers, points
from hpo.report.positions import is_varied, position
from hpo.report.ranges import axis_range
from hpo.report.statistics import Estimate, median_interval
from hpo.report.study_data import StudyData
from hpo.report.wording import axis_title
from hpo.values.domains import Choices, Domain, Value
from hpo.values.wording import counted, value_text

FEWEST = 5
MAX_POINTS = 400
"""Trials in a figure. Medians are those of all trials."""

BINS, PER_BIN = 8, 6
MAX_PARAMETERS = 24


def effects(data: StudyData) -> Section | None:
    """Return a figure for each parameter that varies."""
    known = ends(data)
    domains = {name: domain for name, domain in data.study.spec.space.domains.items() if is_varied(domain)}
    if len(known) < FEWEST or not domains:
        return None
    predicted = sum(not end.is_actual for end in known)
    sentences = [
        f"The end of {counted(len(known), 'trial')} against each parameter"
        f"{f'; {predicted} of them are predicted from their curves' if predicted else ''}.",
        "The line joins medians with their 95% intervals. Trials differ in other parameters as well, and the "
        "sampler tries good regions more often.",
    ]
    if len(domains) > MAX_PARAMETERS:
        sentences.append(f"The first {MAX_PARAMETERS} of {len(domains)} parameters are shown.")
    y = axis(axis_title(data.study), **axis_range([end.value for end in known], data.objective))
    figures = [
        _figure(name, domain, [end for end in known if name in end.trial.row.point], y)
        for name, domain in [*domains.items()][:MAX_PARAMETERS]
    ]
    blocks: list[Block] = [Text(sentences), Figures([figure for figure in figures if figure.traces])]
    return Section("effects", "Effect of each parameter", blocks)


def _figure(name: str, domain: Domain, known: Sequence[End], y: dict[str, object]) -> Figure:
    traces: list[Trace] = []
    shown = known[:: max(1, -(-len(known) // MAX_POINTS))]
    for title, is_actual, style in (
        ("completed", True, (BLUE, "circle")),
        ("predicted", False, (SKY, "circle-open")),
    ):
        chosen = [end for end in shown if end.is_actual == is_actual]
        if chosen:
            traces.append(
                points(
                    title,
                    [_x(end.trial.row.point[name], domain) for end in chosen],
                    numbers(end.value for end in chosen),
                    style,
                    text=[f"trial {end.trial.row.number}" for end in chosen],
                    hoverinfo="text+x+y",
                    marker={"size": 5},
                )
            )
    groups = _groups(name, domain, known)
    if len(groups) > 1:
        traces.append(_medians(groups))
    x = axis(name)
    if isinstance(domain, Choices):
        x |= {"type": "category", "categoryarray": [label(value_text(v), 20) for v in domain.values]}
        x["categoryorder"] = "array"
    elif domain.log:
        x["type"] = "log"
    return Figure(f"End of the trials against {name}.", traces, layout(x, y, 300))


def _x(value: Value, domain: Domain) -> str | float | None:
    if isinstance(domain, Choices) or isinstance(value, str):
        return label(value_text(value), 20)
    return number(float(value))


def _groups(name: str, domain: Domain, known: Sequence[End]) -> list[tuple[str | float | None, Estimate]]:
    """Return the median of the trials of each choice, or of equally many neighbours in a range."""
    ordered = sorted(known, key=lambda end: position(end.trial.row.point[name], domain) or 0.0)
    if isinstance(domain, Choices):
        by_choice: dict[str | float | None, list[float]] = {}
        for end in ordered:
            by_choice.setdefault(_x(end.trial.row.point[name], domain), []).append(end.value)
        return [(x, median_interval(values)) for x, values in by_choice.items() if len(values) >= PER_BIN]
    bins = min(BINS, len(ordered) // PER_BIN)
    if bins < 2:
        return []
    parts = [[ordered[index] for index in part] for part in np.array_split(np.arange(len(ordered)), bins)]
    return [
        (
            number(float(np.median([end.trial.row.point[name] for end in part]))),
            median_interval([end.value for end in part]),
        )
        for part in parts
    ]


def _medians(groups: Sequence[tuple[str | float | None, Estimate]]) -> Trace:
    estimates = [estimate for _, estimate in groups]
    return lines(
        "median",
        [x for x, _ in groups],
        numbers(estimate.value for estimate in estimates),
        BLACK,
        mode="lines+markers",
        marker={"symbol": "square", "size": 6},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": numbers(estimate.high - estimate.value for estimate in estimates),
            "arrayminus": numbers(estimate.value - estimate.low for estimate in estimates),
            "thickness": 1,
        },
    )
