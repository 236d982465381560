"""Device time: what it was spent on, and what pausing and pruning saved."""

from collections.abc import Iterator
from math import sqrt
from statistics import mean, stdev

from optuna.trial import TrialState

from hpo.report.blocks import Block, Figure, Section, Table, Text
from hpo.report.plots import BLUE, GREEN, ORANGE, PURPLE, YELLOW, axis, layout, number
from hpo.report.study_data import StudyData
from hpo.report.wording import duration
from hpo.study.baseline import DEVIATIONS
from hpo.study.status import ACTIVITIES
from hpo.values.stage import STAGES
from hpo.values.wording import counted

COLOURS = dict(zip(ACTIVITIES, (BLUE, GREEN, ORANGE, PURPLE, YELLOW), strict=True))
PATTERNS = dict(zip(ACTIVITIES, ("", "/", ".", "x", "-"), strict=True))
"""Patterns tell the bars apart in print."""

COMPUTING = ("training", "evaluation")


def usage(data: StudyData) -> Section | None:
    """Return the device seconds by activity, and what was not trained."""
    spent = {stage: data.seconds.get(stage, {}) for stage in STAGES}
    totals = {stage: sum(seconds.values()) for stage, seconds in spent.items()}
    stages = [stage for stage in STAGES if totals[stage]]
    if not stages:
        return None
    activities = list(dict.fromkeys([*ACTIVITIES, *(name for stage in stages for name in spent[stage])]))
    rows = [
        [name, *(f"{spent[stage].get(name, 0.0):.1f}" for stage in stages)]
        for name in activities
        if any(spent[stage].get(name) for stage in stages)
    ]
    rows.append(["all", *(f"{totals[stage]:.1f}" for stage in stages)])
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": list(stages),
            "x": [number(spent[stage].get(name, 0.0) / totals[stage]) for stage in stages],
            "marker": {"color": COLOURS.get(name), "pattern": {"shape": PATTERNS.get(name, "")}},
        }
        for name in activities
        if any(spent[stage].get(name) for stage in stages)
    ]
    x = axis("share of the device seconds", tickformat=".0%", range=[0, 1])
    figure = Figure(
        "What workers spent their time on, by stage.",
        traces,
        layout(x, axis("", type="category"), 110 + 60 * len(stages), barmode="stack"),
    )
    computed = sum(spent[stage].get(name, 0.0) for stage in stages for name in COMPUTING)
    total = sum(totals.values())
    sentences = [
        f"Workers computed for {computed / total:.0%} of {duration(total)}; the rest is waiting for the "
        "database, for files and for trials.",
        *_saved(data),
    ]
    blocks: list[Block] = [Text(sentences), figure, Table(["device seconds", *stages], rows)]
    return Section("device-time", "Device time", blocks)


def _saved(data: StudyData) -> Iterator[str]:
    """Yield what the epochs that were not trained would have taken.

    Each trial counts with the mean of its own epochs: the batch size decides how long an epoch is. The error
    is that of these means.
    """
    epochs = data.study.spec.search.epochs
    missing, seconds, variance, trained = 0, 0.0, 0.0, 0.0
    for trial in data.trials("search"):
        is_short = trial.row.state == TrialState.PRUNED or trial.row.is_paused
        took = [epoch.seconds for epoch in trial.curve if epoch.seconds is not None]
        trained += sum(took)
        if is_short and took:
            left = epochs - trial.epochs
            missing += left
            seconds += left * mean(took)
            variance += left**2 * stdev(took) ** 2 / len(took) if len(took) > 1 else 0.0
    if missing:
        error = DEVIATIONS * sqrt(variance)
        share = seconds / (seconds + trained)
        yield (
            f"Pausing and pruning left out {counted(missing, 'epoch')} of the search, which would have taken "
            f"{duration(seconds)} ± {duration(error)} of computing: {share:.0%} of a search of whole trials. "
            "The ± is from the spread of epoch times."
        )
