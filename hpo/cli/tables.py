"""The tables of the commands, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from hpo.cli.export_lines import export_lines
from hpo.cli.layout import Screen, Table
from hpo.spec.study_spec import FULL_SUFFIX
from hpo.store import trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.store.trials import StudyTrials, TrialRow
from hpo.study.baseline import BaselineComparison, compare
from hpo.study.best import BestParams, best_params
from hpo.study.promote import best_trials
from hpo.study.scored import describe_reads
from hpo.study.status import ACTIVITIES, StageStatus, Status, WorkerStatus
from hpo.study.study import Study
from hpo.values.built_in import PARAMETERS
from hpo.values.epoch import Metrics as EpochMetrics
from hpo.values.objective import OBJECTIVES, Objective
from hpo.values.stage import STAGES, Stage
from hpo.values.wording import counted, value_text

if TYPE_CHECKING:  # these modules import torch, and no table needs it
    from hpo.models.profile import Profile
    from hpo.run.export_best import TestResult
    from hpo.simulate.regret import Mean
    from hpo.training.engines.throughput import Throughput

ROWS = 10
"""Most rows in a table of the best trials."""

BESIDE = ("loss", "accuracy", "mae", "r2")
"""The metrics that tables of trials show beside the objective."""

MINI = (", on the mini validation images", ", validated on all mini images")
"""What the metrics of search and full training of a network are about."""

QUIET_SECONDS = 60.0
"""Time without an epoch after which the status of a worker says so."""

ORIGINS: Mapping[str, Callable[[TrialRecord], int | None]] = {
    "search trial": lambda record: record.promoted_from,
    "forked from": lambda record: record.forked_from,
    "refit of": lambda record: record.refit_of,
}
"""The columns for the trial that a trial comes from."""


def _seconds_of(activity: str) -> Callable[[StageStatus], str]:
    return lambda stage: f"{stage.activities[activity]:.1f}"


FIRST_ROWS: Mapping[str, Callable[[StageStatus], str]] = {
    "budget": lambda stage: str(stage.budget),
    "retried": lambda stage: str(stage.retried),
    "paused": lambda stage: str(stage.paused),
    "distinct cells": lambda stage: str(stage.distinct_cells),
    "best trial": lambda stage: "-" if stage.best is None else str(stage.best.trial),
}

LAST_ROWS: Mapping[str, Callable[[StageStatus], str]] = {
    "device seconds": lambda stage: f"{stage.device_seconds:.1f}",
    **{f"  {activity}": _seconds_of(activity) for activity in ACTIVITIES},
    "stopped": lambda stage: "-" if stage.stopped is None else stage.stopped.reason,
}


def final_table(storage: Storage, study: Study, metrics: TestResult, bundle: Path) -> str:
    """Return the summary of a finished study: best trials of both stages, metrics, path of the bundle."""
    best, screen = best_params(storage, study, "full"), Screen.of_stdout()
    on_mini = ("", "") if study.spec.is_function else MINI
    parameters = [f"{name} {value_text(value)}" for name, value in best.params.items()]
    return "\n".join(
        [
            screen.show(_best_trials(storage, study, "search", f"Best of the search{on_mini[0]}")),
            "",
            screen.show(_best_trials(storage, study, "full", f"Full training{on_mini[1]}")),
            "",
            screen.join([f"Best: full trial {best.trial}", *parameters]),
            screen.wrap(_result(metrics, best)),
            *map(screen.wrap, _baseline(best.baseline)),
            *(screen.wrap(_capital(line)) for line in export_lines(best, bundle)),
            f"Bundle: {bundle}",
        ]
    )


def _result(metrics: TestResult, best: BestParams) -> str:
    if isinstance(metrics, Mapping):
        return f"Epoch {best.record.kept_epoch}: {metrics_text(metrics)}"
    return f"Test {metrics.describe()}"


def metrics_text(metrics: TestResult) -> str:
    """Return the test metrics of a network, or the metrics of a training function, as words."""
    if isinstance(metrics, Mapping):
        return ", ".join(f"{name} {value_text(value)}" for name, value in metrics.items())
    return f"test {metrics.describe()}"


def trial_table(storage: Storage, study: Study) -> str:
    """Return a table of all trials for each stage that has trials."""
    with storage.transaction() as connection:
        stages = {stage: trials.read(connection, study.study_id(stage)) for stage in STAGES}
    parts = [part for stage, rows in stages.items() for part in _stage_trials(rows, stage, study.objective)]
    return "\n\n".join([*parts, *_baseline(compare(study, stages["search"].ours))])


def _stage_trials(rows: StudyTrials, stage: Stage, objective: Objective) -> Iterator[str]:
    """Yield the table of a stage's trials, and a line with the trials that hpo did not add."""
    if rows.ours:
        yield _show(trials_of(rows.ours, stage, objective, with_state=True))
    if rows.foreign:
        foreign = ", ".join(f"{trial.number} ({trial.state.name})" for trial in rows.foreign)
        yield f"{stage}: trials of other programs: {foreign}"


def status_table(status: Status) -> str:
    """Return the figures of both stages of a study, and its workers."""
    stages = (status.search, status.full)
    states = [(state.name, *(str(stage.states[state.name]) for stage in stages)) for state in TrialState]
    rows = {**FIRST_ROWS, **_best_rows(status), **LAST_ROWS}
    figures = [(label, *map(cell, stages)) for label, cell in rows.items()]
    workers = ", ".join(map(_worker, status.workers))
    table = _show(Table(f"Study {status.study}", ("", *STAGES), [*states, *figures]))
    reads = [_capital(describe_reads(status.scored))] if status.scored else []
    lines = [f"Workers: {workers or 'none'}", *_baseline(status.baseline), *reads, *_failures(status)]
    return "\n".join([table, "", *lines])


def _capital(line: str) -> str:
    return line[:1].upper() + line[1:]


def _baseline(comparison: BaselineComparison | None) -> list[str]:
    """Return the line about the baseline, if there is one."""
    return [] if comparison is None else [f"Baseline: {comparison.describe()}"]


def _best_rows(status: Status) -> dict[str, Callable[[StageStatus], str]]:
    """Return the rows of the best trial: its objective, and its other metrics."""
    objective, stages = status.objective, (status.search, status.full)

    def shown(metric: Objective, stage: StageStatus) -> str:
        value = None if stage.best is None else stage.best.metrics.get(metric.key)
        return "-" if value is None else metric.show(value)

    def best(stage: StageStatus) -> str:
        return "-" if stage.best is None else objective.show(stage.best.value)

    recorded = [stage.best.metrics for stage in stages if stage.best is not None]
    others = {f"its {metric.title}": partial(shown, metric) for metric in objective.others(recorded)}
    return {f"best {objective.title}": best, **others}


def _worker(worker: WorkerStatus) -> str:
    quiet = worker.quiet_seconds or 0.0
    silence = f", no epoch for {quiet / 60:.0f} min" if quiet >= QUIET_SECONDS else ""
    return f"{worker.name} ({counted(worker.running, 'trial')}{silence})"


def _failures(status: Status) -> Iterator[str]:
    """Yield a line for each stage with failed trials."""
    for stage, figures in zip(STAGES, (status.search, status.full), strict=True):
        if figures.failures is not None:
            name = status.study if stage == "search" else f"{status.study}{FULL_SUFFIX}"
            yield f"{stage}: {figures.failures.describe(name)}"


def study_table(studies: Iterable[Status]) -> str:
    """Return a table with a row for each study. `stage` is the stage of the best trial."""
    rows = []
    for status in studies:
        best = status.full.best or status.search.best
        rows.append(
            (
                status.study,
                _progress(status.search),
                _progress(status.full),
                "-" if best is None else f"{status.objective.title} {status.objective.show(best.value)}",
                "-" if best is None else "full" if best is status.full.best else "search",
                str(len(status.workers)),
            )
        )
    return _show(Table("Studies", ("study", "search", "full", "best", "stage", "workers"), rows))


def model_table(profiles: Iterable[Profile]) -> str:
    """Return a table with a row for each network."""
    rows = [(entry.name, f"{entry.parameters:,}", f"{entry.forward_flops / 1e6:,.2f}") for entry in profiles]
    return _show(Table("Networks", ("name", "parameters", "forward MFLOP per image"), rows))


def tuning_table(model: str, throughputs: Sequence[Throughput], threads: int) -> str:
    """Return the measured rates of a network: a row for each batch size, a column for each variant."""
    variants = list(dict.fromkeys(variant for row in throughputs for variant in row.images_per_second))
    rows = []
    for row in throughputs:
        rates = (
            f"{row.images_per_second[variant]:,.0f}" if variant in row.images_per_second else "-"
            for variant in variants
        )
        purpose = "evaluation" if row.purpose == "evaluation" else "step"
        rows.append((f"{purpose}, {row.batch_size}", *rates, row.chosen))
    title = f"{model}, images a second and process ({counted(threads, 'thread')})"
    return _show(Table(title, ("images at once", *variants, "chosen"), rows))


def replay_table(title: str, means: Mapping[str, Mapping[str, Mean]]) -> str:
    """Return a table of means by limit of the search, such as "50% of 600 epochs", and by quantity."""
    quantities = [quantity.replace("_", " ") for quantity in next(iter(means.values()))]
    rows = [
        (limit, *(f"{figure.mean:.3g} ± {figure.error:.2g}" for figure in figures.values()))
        for limit, figures in means.items()
    ]
    return _show(Table(title, ("spent", *quantities), rows))


def trials_of(rows: Sequence[TrialRow], title: str, objective: Objective, with_state: bool = False) -> Table:
    """Return a table with a row for each trial.

    Beside the objective stand `BESIDE` of the built-in training, and all metrics of the user's own.
    """
    recorded = [row.record.metrics for row in rows if row.record.metrics is not None]
    others = objective.others(recorded)
    others = [metric for metric in others if metric.name in BESIDE or metric != OBJECTIVES.get(metric.name)]
    parameters = list(dict.fromkeys(name for row in rows for name in row.point))
    origins = {label: of for label, of in ORIGINS.items() if any(of(row.record) is not None for row in rows)}
    columns = [
        "trial",
        *(["state"] if with_state else []),
        # The user's own names are code: `l1_ratio` is no "l1 ratio".
        *(name.replace("_", " ") if name in PARAMETERS else name for name in parameters),
        *origins,
        objective.title,
        *(metric.title for metric in others),
        "epochs",
    ]
    lines = [
        [
            str(row.number),
            *([row.state.name] if with_state else []),
            *(value_text(row.point.get(name, "-")) for name in parameters),
            *(_or_dash(of(row.record)) for of in origins.values()),
            "-" if row.value is None else objective.show(row.value),
            *(_metric(metric, row.record) for metric in others),
            _or_dash(row.record.epochs),
        ]
        for row in rows
    ]
    return Table(title, columns, lines)


def _best_trials(storage: Storage, study: Study, stage: Stage, title: str) -> Table:
    with storage.transaction() as connection:
        rows = trials.read(connection, study.study_id(stage))
    refits = [row.state for row in rows.ours if row.record.refit_of is not None]
    counts = Counter(rows.states) - Counter(refits)
    states = ", ".join(
        [
            *(f"{counts[state]} {state.name.lower()}" for state in TrialState if counts[state]),
            *([counted(len(refits), "refit")] if refits else []),
        ]
    )
    best = best_trials(rows.ours, ROWS, study.objective)
    return trials_of(best, f"{title} ({states})", study.objective)


def figures_of(objective: Objective, value: float, metrics: EpochMetrics) -> list[str]:
    """Return an objective and the other metrics of an epoch in words, as in "loss 0.0666"."""
    others = [metric for metric in objective.others([metrics]) if metric.key in metrics]
    pairs = [(objective, value), *((metric, metrics[metric.key]) for metric in others)]
    return [f"{metric.title} {metric.show(number)}" for metric, number in pairs]


def _metric(metric: Objective, record: TrialRecord) -> str:
    value = None if record.metrics is None else record.metrics.get(metric.key)
    return "-" if value is None else metric.show(value)


def _progress(stage: StageStatus) -> str:
    return f"{stage.finished} of {stage.budget}"


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _show(table: Table) -> str:
    return Screen.of_stdout().show(table)
