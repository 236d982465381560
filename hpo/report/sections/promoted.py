"""Promoted trials: their value in the search against that of their full trainings."""

from collections.abc import Sequence

from hpo.report.blocks import Block, Figure, Section, Table, Text
from hpo.report.plots import BLUE, axis, label, layout, number, points
from hpo.report.statistics import mean_interval, rank_correlation
from hpo.report.study_data import StudyData
from hpo.report.wording import axis_title, error_of, value_of, with_interval
from hpo.study.baseline import DEVIATIONS
from hpo.study.history import TrialHistory
from hpo.values.objective import Objective
from hpo.values.wording import counted

NETWORK_STAGES = (
    "The search validates on few images after few epochs, full training on more images after more epochs: "
    "their values are not comparable."
)
FUNCTION_STAGES = "Both stages call the same function. A full training has its own number of epochs."


def promoted(data: StudyData) -> Section | None:
    """Return a table of the promoted trials with all full trainings, and the values of both stages."""
    trainings: dict[int, list[TrialHistory]] = {}
    for trial in data.trials("full"):
        if trial.row.record.promoted_from is not None:
            trainings.setdefault(trial.row.record.promoted_from, []).append(trial)
    if not trainings:
        return None
    objective = data.objective
    search = {trial.row.number: trial for trial in data.trials("search")}
    ranks = {trial.row.number: rank for rank, trial in enumerate(data.completed("search"), start=1)}
    rows = []
    for number_, repeats in trainings.items():
        original = search.get(number_)
        rows.append(
            [
                str(number_),
                str(ranks.get(number_, "-")),
                "-" if original is None else value_of(original.row, objective),
                _mean(repeats, objective),
                *("; ".join(_training(trial, objective) for trial in repeats),),
            ]
        )
    mini = "in the search" if data.study.spec.is_function else "on mini"
    header = ["search trial", "rank", f"{objective.title} {mini}", "mean in full", "full trainings"]
    blocks: list[Block] = [Text([*_sentences(data, trainings, search)]), Table(header, rows)]
    pairs = [
        (search[number_], trial)
        for number_, repeats in trainings.items()
        for trial in repeats
        if trial.row.value is not None and number_ in search and search[number_].row.value is not None
    ]
    if len(trainings) > 1 and len(pairs) > 1:
        blocks.append(_figure(data, pairs))
    return Section("promoted", "Promoted trials", blocks)


def _training(trial: TrialHistory, objective: Objective) -> str:
    if trial.row.record.refit_of is not None:
        return f"{trial.row.number}: refit of {trial.row.record.refit_of}"
    if trial.row.value is None:
        return f"{trial.row.number}: {trial.row.state.name.lower()}"
    kept = trial.row.record.kept_epoch
    epoch = "" if kept is None else f", epoch {kept}"
    return f"{trial.row.number}: {value_of(trial.row, objective)}{epoch}"


def _mean(trials: Sequence[TrialHistory], objective: Objective) -> str:
    """Return the mean over the seeds with the interval from their spread."""
    values = [trial.row.value for trial in trials if trial.row.value is not None]
    if not values:
        return "-"
    mean, half_width = mean_interval(values)
    return with_interval(objective, mean, half_width)


def _sentences(
    data: StudyData, trainings: dict[int, list[TrialHistory]], search: dict[int, TrialHistory]
) -> list[str]:
    count = sum(trial.row.record.refit_of is None for repeats in trainings.values() for trial in repeats)
    sentences = [
        f"{counted(len(trainings), 'search trial')} became {counted(count, 'full training')}.",
        FUNCTION_STAGES if data.study.spec.is_function else NETWORK_STAGES,
    ]
    means = {
        number_: sum(values) / len(values)
        for number_, repeats in trainings.items()
        if (values := [trial.row.value for trial in repeats if trial.row.value is not None])
    }
    both = [
        (value, means[number_])
        for number_ in means
        if number_ in search and (value := search[number_].row.value) is not None
    ]
    if (correlation := rank_correlation(both)) is not None:
        sentences.append(
            f"The rank correlation of both stages is {correlation.describe()}, from {len(both)} trials."
        )
    elif len(both) > 1:
        sentences.append(f"{len(both)} promoted trials are too few for a rank correlation of both stages.")
    if any(len(repeats) > 1 for repeats in trainings.values()):
        sentences.append("The mean's ± is a 95% interval from the spread of the seeds, by Student's t.")
    return sentences


def _figure(data: StudyData, pairs: Sequence[tuple[TrialHistory, TrialHistory]]) -> Figure:
    objective = data.objective

    def half_widths(trials: Sequence[TrialHistory]) -> dict[str, object]:
        errors = [error_of(trial.row, objective) for trial in trials]
        widths = [None if error is None else number(DEVIATIONS * error) for error in errors]
        return {"type": "data", "array": widths, "visible": None not in widths, "thickness": 1}

    originals, trials = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    trace = points(
        "full training",
        [number(trial.row.value) for trial in originals],
        [number(trial.row.value) for trial in trials],
        (BLUE, "circle"),
        error_x=half_widths(originals),
        error_y=half_widths(trials),
        text=[label(f"search trial {a.row.number}, full trial {b.row.number}") for a, b in pairs],
        hoverinfo="text+x+y",
    )
    title = axis_title(data.study)
    x, y = axis(f"search: {title}"), axis(f"full: {title}")
    caption = "Each full training against its search trial. Bars are 95% intervals of the validation images."
    return Figure(caption, [trace], layout(x, y, 380, showlegend=False))
