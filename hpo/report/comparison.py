"""Two studies compared."""

from collections.abc import Callable, Iterator, Sequence
from json import dumps
from math import hypot

from optuna.trial import TrialState

from hpo.report.blocks import Block, Figure, Report, Section, Table, Text, Warnings
from hpo.report.plots import BLUE, VERMILION, axis, layout
from hpo.report.ranges import axis_range
from hpo.report.sections.history import best_over_seconds
from hpo.report.study_data import StudyData
from hpo.report.wording import axis_title, duration, error_of, is_known, value_of
from hpo.spec.fingerprint import flatten
from hpo.study.baseline import DEVIATIONS
from hpo.study.history import TrialHistory
from hpo.values.stage import STAGES, Stage
from hpo.values.wording import value_text

Pair = tuple[StudyData, StudyData]

IGNORED = ("name",)
"""Keys of a study file that always differ."""

STAGE_WORDS: dict[Stage, str] = {"search": "search trial", "full": "full training"}


def compare_studies(first: StudyData, second: StudyData) -> Report:
    """Return the report on two studies: best trials with intervals, budgets, progress and differences."""
    pair = first, second
    names = f"{first.study.name} and {second.study.name}"
    sections = (_summary(pair), _budget(pair), _progress(pair), _parameters(pair), _differences(pair))
    subtitle = f"{first.now:%Y-%m-%d %H:%M:%S} UTC"
    return Report(f"Studies {names}", subtitle, [section for section in sections if section is not None])


def are_comparable(pair: Pair) -> bool:
    """Return whether both studies have the same objective."""
    first, second = (data.objective for data in pair)
    return (first.key, first.direction) == (second.key, second.direction)


def _summary(pair: Pair) -> Section:
    blocks: list[Block] = []
    if warnings := [*_obstacles(pair)]:
        blocks.append(Warnings(warnings))
    if are_comparable(pair):
        blocks.append(Text([sentence for stage in STAGES for sentence in _best(pair, stage)]))
    return Section("summary", "Summary", blocks)


def _obstacles(pair: Pair) -> Iterator[str]:
    """Yield why values of the two studies are not comparable."""
    first, second = (data.study for data in pair)
    if not are_comparable(pair):
        titles = " and ".join(f"{s.objective.title} ({s.objective.direction})" for s in (first, second))
        yield f"The studies have different objectives, {titles}: their values cannot be compared."
    hashes = [study.identity.data for study in (first, second)]
    if None not in hashes and hashes[0] != hashes[1]:
        yield "The studies have different data, so a difference may come from the data."
    if first.spec.code != second.spec.code:
        yield f"The studies train different code: {first.spec.code} and {second.spec.code}."
    if first.spec.search.epochs != second.spec.search.epochs:
        yield (
            f"A search trial has {first.spec.search.epochs} epochs in {first.name} and "
            f"{second.spec.search.epochs} in {second.name}, so more training explains a part of a difference."
        )


def _best(pair: Pair, stage: Stage) -> Iterator[str]:
    completed = [data.completed(stage) for data in pair]
    for data, trials in zip(pair, completed, strict=True):
        if trials:
            row = trials[0].row
            yield (
                f"The best {STAGE_WORDS[stage]} of {data.study.name} is trial {row.number}, of "
                f"{len(trials)}, with {data.objective.title} {value_of(row, data.objective)}."
            )
        elif stage == "search":
            yield f"No {STAGE_WORDS[stage]} of {data.study.name} has completed."
    if all(completed):
        yield _verdict(pair, [trials[0] for trials in completed])


def _verdict(pair: Pair, best: Sequence[TrialHistory]) -> str:
    """Return which study is better. Errors are added as if they were independent."""
    objective = pair[0].objective
    values = [trial.row.value for trial in best]
    costs = [objective.cost(value) for value in values if value is not None]
    errors = [error_of(trial.row, objective) for trial in best]
    half_width = None if None in errors else DEVIATIONS * hypot(*(error or 0.0 for error in errors))
    better, worse = (0, 1) if costs[0] <= costs[1] else (1, 0)
    difference = costs[worse] - costs[better]
    names = [data.study.name for data in pair]
    figures = objective.show_gain(difference, half_width)
    if half_width is None:
        return f"{names[better]} is ahead by {figures}: whether it is better is not known."
    known = "better" if is_known(difference, half_width) else "not known to be better"
    return f"{names[better]} is {known} than {names[worse]}: by {figures}."


FIGURES: Sequence[tuple[str, Callable[[StudyData], str]]] = (
    ("search trials", lambda data: str(len(data.trials("search")))),
    ("completed", lambda data: str(data.count("search", TrialState.COMPLETE))),
    ("pruned", lambda data: str(data.count("search", TrialState.PRUNED))),
    ("failed", lambda data: str(data.count("search", TrialState.FAIL))),
    ("epochs of the search", lambda data: str(sum(trial.epochs for trial in data.trials("search")))),
    ("device time of the search", lambda data: _device_time(data, "search")),
    ("full trainings completed", lambda data: str(data.count("full", TrialState.COMPLETE))),
    ("device time of full training", lambda data: _device_time(data, "full")),
)


def _device_time(data: StudyData, stage: Stage) -> str:
    return duration(sum(data.seconds.get(stage, {}).values()))


def _budget(pair: Pair) -> Section:
    rows = [[title, *map(of, pair)] for title, of in FIGURES]
    return Section("budget", "Budget", [Table(["", *(data.study.name for data in pair)], rows)])


def _progress(pair: Pair) -> Section | None:
    if not are_comparable(pair):
        return None
    styles = zip(pair, (BLUE, VERMILION), ("circle", "square"), strict=True)
    traces = [
        {**trace, "marker": {"symbol": symbol, "size": 7}}
        for data, colour, symbol in styles
        if (trace := best_over_seconds(data, data.study.name, colour)) is not None
    ]
    if not traces:
        return None
    objective = pair[0].objective
    y = axis(axis_title(pair[0].study), **axis_range([y for trace in traces for y in trace["y"]], objective))
    figure = Figure(
        "Best completed search trial against the device seconds of training and evaluation.",
        traces,
        layout(axis("device seconds", rangemode="tozero"), y),
    )
    return Section("progress", "Progress", [figure])


def _parameters(pair: Pair) -> Section | None:
    """Return the parameters of the best search trial of both studies."""
    points = [trials[0].row.point if (trials := data.completed("search")) else {} for data in pair]
    names = list(dict.fromkeys(name for point in points for name in point))
    if not names:
        return None
    rows = [[name, *(value_text(point.get(name, "-")) for point in points)] for name in names]
    header = ["parameter", *(f"best of {data.study.name}" for data in pair)]
    return Section("parameters", "Parameters", [Table(header, rows)])


def _differences(pair: Pair) -> Section:
    """Return the keys of the study files that differ."""
    first, second = (flatten(data.study.spec.to_json()) for data in pair)
    keys = [
        key
        for key in dict.fromkeys([*first, *second])
        if key not in IGNORED and first.get(key) != second.get(key)
    ]
    if not keys:
        return Section("differences", "Study files", [Text(["The study files differ in the name alone."])])
    rows = [[key, *(_text(values.get(key)) for values in (first, second))] for key in keys]
    header = ["key", *(data.study.name for data in pair)]
    return Section("differences", "Study files", [Table(header, rows)])


def _text(value: object) -> str:
    """Return a value of a study file, nearly as it stands there."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else dumps(value, ensure_ascii=False)
