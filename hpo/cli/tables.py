"""The tables of the commands, as text."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import TrialState
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hpo.data import Labelled
from hpo.data.statistics import Statistics
from hpo.store import trials
from hpo.store.connection import Storage
from hpo.store.trials import TrialRow
from hpo.study.best import best_params
from hpo.study.promote import best_trials
from hpo.study.status import ACTIVITIES, StageStatus, Status
from hpo.study.study import Study
from hpo.values.space import Value
from hpo.values.stage import Stage

if TYPE_CHECKING:  # these modules import torch, and no table needs it
    from hpo.export.metrics import Metrics
    from hpo.models.profile import Profile
    from hpo.simulate.regret import Mean
    from hpo.training.engines.throughput import Throughput

ROWS = 10
"""Most rows in a table of the best trials."""


def _seconds_of(activity: str) -> Callable[[StageStatus], str]:
    return lambda stage: f"{stage.activities[activity]:.1f}"


STATUS_ROWS: Mapping[str, Callable[[StageStatus], str]] = {
    "budget": lambda stage: str(stage.budget),
    "paused": lambda stage: str(stage.paused),
    "distinct cells": lambda stage: str(stage.distinct_cells),
    "best trial": lambda stage: "-" if stage.best is None else str(stage.best.trial),
    "best loss": lambda stage: "-" if stage.best is None else f"{stage.best.value:.4f}",
    "its accuracy": lambda stage: _percent(None if stage.best is None else stage.best.accuracy),
    "device seconds": lambda stage: f"{stage.device_seconds:.1f}",
    **{f"  {activity}": _seconds_of(activity) for activity in ACTIVITIES},
    "stopped": lambda stage: "-" if stage.stopped is None else stage.stopped.reason,
}


def final_table(storage: Storage, study: Study, metrics: Metrics, bundle: Path) -> str:
    """Return the summary of a finished study: best trials of both stages, test result, path of the bundle."""
    best = best_params(storage, study, "full")
    low, high = metrics.accuracy_interval
    return "\n".join(
        [
            _best_trials(storage, study, "search", "Best of the search, on the mini validation images"),
            _best_trials(storage, study, "full", "Full training, on the full validation images"),
            f"Best: full trial {best.trial}, "
            + ", ".join(f"{name} {_number(value)}" for name, value in best.params.items()),
            f"Test accuracy {metrics.accuracy:.2%} (95% interval {low:.2%} to {high:.2%}, n = {metrics.n:,})",
            f"Bundle: {bundle}",
        ]
    )


def trial_table(storage: Storage, study: Study) -> str:
    """Return a table of all trials for each stage that has trials."""
    with storage.transaction() as connection:
        stages = {stage: trials.read(connection, study.study_id(stage)) for stage in ("search", "full")}
    return "\n".join(_trials(rows, stage) for stage, rows in stages.items() if rows)


def status_table(status: Status) -> str:
    """Return the figures of both stages of a study, and its workers."""
    table = _table(f"Study {status.study}", ("", "search", "full"))
    for state in TrialState:
        table.add_row(state.name, *(str(stage.states[state.name]) for stage in (status.search, status.full)))
    for label, cell in STATUS_ROWS.items():
        table.add_row(label, cell(status.search), cell(status.full))
    workers = ", ".join(f"{worker.name} ({worker.running} trials)" for worker in status.workers) or "none"
    return f"{_render(table)}\nWorkers: {workers}"


def study_table(studies: Iterable[Status]) -> str:
    """Return a table with a row for each study."""
    table = _table("Studies", ("study", "search", "full", "best loss", "workers"))
    for status in studies:
        best = status.full.best or status.search.best
        table.add_row(
            status.study,
            _progress(status.search),
            _progress(status.full),
            "-" if best is None else f"{best.value:.4f}",
            str(len(status.workers)),
        )
    return _render(table)


def data_table(name: str, train: Labelled, figures: Statistics) -> str:
    """Return the images per class of a data set, and the shape and statistics of its images."""
    table = _table(f"{name}, training images", ("class", "images", "share"))
    for label, count in figures.counts.items():
        table.add_row(label, f"{count:,}", f"{count / len(train):.2%}")
    height, width = train.size
    mean = ", ".join(f"{value:.4f}" for value in figures.mean)
    std = ", ".join(f"{value:.4f}" for value in figures.std)
    shape = f"{len(train):,} images of {height}x{width}, channels {train.channels}"
    return f"{_render(table)}\n{shape}; pixels / 255: mean {mean}, standard deviation {std}"


def model_table(profiles: Iterable[Profile]) -> str:
    """Return a table with a row for each network."""
    table = _table("Networks", ("name", "parameters", "forward MFLOP per image"))
    for entry in profiles:
        table.add_row(entry.name, f"{entry.parameters:,}", f"{entry.forward_flops / 1e6:,.2f}")
    return _render(table)


def tuning_table(model: str, rows: Sequence[Throughput], threads: int) -> str:
    """Return the measured rates of a network: a row for each batch size, a column for each variant."""
    variants = list(dict.fromkeys(variant for row in rows for variant in row.images_per_second))
    columns = ("images at once", *variants, "chosen")
    threads_of = "1 thread" if threads == 1 else f"{threads} threads"
    table = _table(f"{model}, images a second and process ({threads_of})", columns)
    for row in rows:
        rates = (
            f"{row.images_per_second[variant]:,.0f}" if variant in row.images_per_second else "-"
            for variant in variants
        )
        purpose = "evaluation" if row.purpose == "evaluation" else "step"
        table.add_row(f"{purpose}, {row.batch_size}", *rates, row.chosen)
    return _render(table)


def replay_table(title: str, rows: Mapping[str, Mapping[str, Mean]]) -> str:
    """Return a table of means by limit of the search, such as "50% of 600 epochs", and by quantity."""
    quantities = next(iter(rows.values()))
    table = _table(title, ("spent", *(quantity.replace("_", " ") for quantity in quantities)))
    for limit, means in rows.items():
        table.add_row(limit, *(f"{figure.mean:.3g} ± {figure.error:.2g}" for figure in means.values()))
    return _render(table)


def _best_trials(storage: Storage, study: Study, stage: Stage, title: str) -> str:
    with storage.transaction() as connection:
        rows = trials.read(connection, study.study_id(stage))
    best = best_trials(rows, ROWS)
    states = ", ".join(
        f"{count} {state.name.lower()}"
        for state in TrialState
        if (count := sum(row.state == state for row in rows))
    )
    return _trials(best, f"{title} ({states})")


def _trials(rows: Sequence[TrialRow], title: str) -> str:
    parameters = list(rows[0].point) if rows else []
    table = _table(title, ("trial", "state", *parameters, "from", "loss", "accuracy", "epochs"))
    for row in rows:
        table.add_row(
            str(row.number),
            row.state.name,
            *(_number(row.point[name]) for name in parameters),
            str(row.attributes.get("promoted_from", row.attributes.get("forked_from", "-"))),
            "-" if row.value is None else f"{row.value:.4f}",
            _percent(row.attributes.get("accuracy")),
            str(row.attributes.get("epochs", "-")),
        )
    return _render(table)


def _progress(stage: StageStatus) -> str:
    return f"{stage.finished} of {stage.budget}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _number(value: Value) -> str:
    return f"{value:g}"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _render(table: Table) -> str:
    # A pipe has no edge to wrap at, so a table keeps its full width there.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
    console = Console(width=width, no_color=not sys.stdout.isatty(), highlight=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines())
