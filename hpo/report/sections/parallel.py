"""Parallel coordinates: each trial as a line over its parameters and its end."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpo.report.blocks import Figure, Section, Text
from hpo.report.ends import End, ends
from hpo.report.plots import COLOURS, GREY, SKY, SYMBOLS, Trace, label, layout, lines, number, with_gaps
from hpo.report.positions import is_varied, marks, position
from hpo.report.study_data import StudyData
from hpo.values.domains import Domain

NAMED, HIGHLIGHTED, MAX_OTHERS = 5, 50, 1000
FEWEST = 3
MAX_PARAMETERS = 16


def parallel(data: StudyData) -> Section | None:
    """Return the trials as lines, the best in colours and with symbols."""
    domains = {name: domain for name, domain in data.study.spec.space.domains.items() if is_varied(domain)}
    domains = dict([*domains.items()][:MAX_PARAMETERS])
    cost = data.objective.cost
    known = sorted(ends(data), key=lambda end: (cost(end.value), end.trial.row.number))
    if len(known) < FEWEST or len(domains) < 2:
        return None
    heights = _heights([cost(end.value) for end in known])
    paths = [[*_path(end, domains), height] for end, height in zip(known, heights, strict=True)]
    x = list(range(len(domains) + 1))
    rest = [*range(HIGHLIGHTED, len(known))]
    shown = rest[:: max(1, -(-len(rest) // MAX_OTHERS))]
    traces: list[Trace] = []
    for name, indices, colour, width in (
        ("other trials", shown, GREY, 0.5),
        ("best 50", range(NAMED, min(HIGHLIGHTED, len(known))), SKY, 1.0),
    ):
        if indices:
            xs, ys = with_gaps((x, paths[index]) for index in indices)
            title = name if rest else "other trials"
            traces.append(lines(title, xs, ys, colour, line={"width": width}, hoverinfo="skip"))
    for index in reversed(range(min(NAMED, len(known)))):
        end = known[index]
        traces.append(
            lines(
                f"trial {end.trial.row.number}{'' if end.is_actual else ' (predicted)'}",
                *(x, paths[index], COLOURS[index]),
                mode="lines+markers",
                marker={"symbol": SYMBOLS[index], "size": 6},
                line={"width": 2},
                hoverinfo="name",
            )
        )
    caption = "Each line is a trial: its parameters, and its end on the last axis, where the top is best."
    text = "A gap is a parameter that does not apply. Ends of trials that did not complete are predicted."
    return Section(
        "parallel", "Parallel coordinates", [Text([text]), Figure(caption, traces, _layout(data, domains))]
    )


def _path(end: End, domains: Mapping[str, Domain]) -> list[float | None]:
    point = end.trial.row.point
    return [
        number(position(point[name], domain)) if name in point else None for name, domain in domains.items()
    ]


def _heights(costs: Sequence[float]) -> list[float | None]:
    """Return the heights of sorted costs: 1 for the best, 0 for the 90th percentile and all above."""
    low, high = costs[0], float(np.percentile(costs, 90))
    scale = (high - low) or 1.0
    return [number(1 - min(1.0, (cost - low) / scale)) for cost in costs]


def _layout(data: StudyData, domains: Mapping[str, Domain]) -> dict[str, Any]:
    names = [*domains, data.objective.title]
    annotations = [
        {
            **{"x": index, "y": height, "text": label(text, 12), "showarrow": False, "font": {"size": 10}},
            **{"xanchor": "left", "xshift": 3, "bgcolor": "rgba(255,255,255,0.75)"},
        }
        for index, domain in enumerate(domains.values())
        for height, text in marks(domain)
    ]
    last = {"x": len(domains), "showarrow": False, "font": {"size": 10}, "xanchor": "right", "xshift": -3}
    annotations += [{**last, "y": 1, "text": "best"}, {**last, "y": 0, "text": "worst tenth"}]
    x = {
        **{"tickvals": list(range(len(names))), "ticktext": [label(name, 18) for name in names]},
        **{"automargin": True, "zeroline": False, "gridcolor": "#999", "range": [-0.1, len(names) - 0.9]},
    }
    y = {"visible": False, "range": [-0.06, 1.06]}
    return layout(x, y, 460, annotations=annotations)
