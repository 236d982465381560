"""The live screen of a study: one text that fits a terminal of any width, with and without colour."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpo.run.event_words import event_lines, worker_label
from hpo.run.progress_words import left_text, stage_text
from hpo.study.live import LiveStatus, StageProgress, WorkerActivity
from hpo.study.status import Best, StageStatus
from hpo.values.objective import Objective
from hpo.values.stage import STAGES
from hpo.values.wording import counted, duration_text, value_text

WIDE = 70
"""Columns from which there are bars, and workers are a table."""

BAR = 18
"""Columns of a bar."""

LABEL = 8
"""Columns of the words at the left."""

FEWEST = 3
"""Rows that workers and events get on the lowest terminal."""

MOST_EVENTS = 8
"""Most lines of events."""

FIXED = 13
"""Rows of everything else, about."""

QUIET_SECONDS = 60.0
"""Time without an epoch after which the row of a worker says so."""

SHOWN_TRIALS = 3
"""Most trials that the row of a worker names."""


@dataclass(frozen=True, slots=True)
class Screen:
    """The size of a terminal, what is shown below the figures, and where the lines of workers are."""

    width: int
    height: int = 50
    notes: Sequence[str] = ()
    log: Path | None = None

    def render(self, live: LiveStatus) -> RenderableType:
        """Return the screen of a study."""
        room = max(FEWEST, self.height - FIXED)
        workers = min(len(live.workers), max(FEWEST, room - FEWEST))
        parts: list[RenderableType] = [Text(_title(live), style="bold")]
        parts += self._stages(live)
        parts += self._labelled("left", left_text(live))
        parts += self._best(live)
        if live.workers:
            parts += [Text(), *self._workers(live.workers, workers)]
        lines = event_lines(live.events)[-min(MOST_EVENTS, max(FEWEST, room - workers)) :]
        if lines:
            parts += [Text(), *(Text(line) for line in lines)]
        parts += [Text(note) for note in self.notes]
        if self.log is not None:
            parts += [Text(), *self._labelled("log", str(self.log), style="dim")]
        return Group(*parts)

    @property
    def _is_wide(self) -> bool:
        return self.width >= WIDE

    def _labelled(self, label: str, text: str, style: str = "") -> list[RenderableType]:
        if not self._is_wide:
            return [Text(f"{label}: {text}", style=style, overflow="fold")]
        return [_row(Text(label, style="cyan"), Text(text, style=style, overflow="fold"))]

    def _stages(self, live: LiveStatus) -> Iterator[RenderableType]:
        for stage in STAGES:
            figures: StageStatus = getattr(live.status, stage)
            progress: StageProgress = getattr(live, stage)
            if stage == "full" and not figures.present:
                continue
            text = stage_text(figures, progress, "trial" if stage == "search" else "training")
            if not self._is_wide:
                yield from self._labelled(stage, f"{progress.share:.0%}, {text}")
                continue
            bar = ProgressBar(total=1.0, completed=progress.share, width=BAR)
            yield _row(Text(stage, style="cyan"), bar, Text(f"{progress.share:4.0%}"), Text(text))

    def _best(self, live: LiveStatus) -> Iterator[RenderableType]:
        stage = "full" if live.status.full.best is not None else "search"
        best: Best | None = getattr(live.status, stage).best
        if best is None:
            yield from self._labelled("best", "no trial has completed yet")
            return
        objective = live.status.objective
        title = "full training" if stage == "full" else "trial"
        yield from self._labelled("best", f"{_figures(objective, best)} ({title} {best.trial})")
        parameters = ", ".join(f"{name} {value_text(value)}" for name, value in best.params.items())
        if self._is_wide:
            yield _row(Text(), Text(parameters))
        else:
            yield Text(f"with {parameters}")

    def _workers(self, workers: Sequence[WorkerActivity], count: int) -> Iterator[RenderableType]:
        if self._is_wide:
            yield _worker_table(workers[:count])
        else:
            yield from (Text(_worker_line(worker)) for worker in workers[:count])
        if count < len(workers):
            yield Text(f"and {len(workers) - count} more")


def _title(live: LiveStatus) -> str:
    status = live.status
    mark = status.full.stopped or status.search.stopped
    is_done = status.full.present and not status.full.open and not status.search.begun
    if is_done:
        return f"Study {status.study}: finished"
    if mark is not None and (status.full.stopped is not None or not status.full.present):
        return f"Study {status.study}: {mark.reason}"
    stage = "full training" if status.full.present else "search"
    workers = counted(len(live.workers), "worker") if live.workers else "no worker"
    return f"Study {status.study}: {stage}, {workers}"


def _figures(objective: Objective, best: Best) -> str:
    figures = [f"{objective.title} {objective.show(best.value)}"]
    others = [metric for metric in objective.others([best.metrics]) if metric.key in best.metrics]
    figures += [f"{metric.title} {metric.show(best.metrics[metric.key])}" for metric in others[:2]]
    return ", ".join(figures)


def _worker_table(workers: Sequence[WorkerActivity]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="cyan", padding=(0, 2, 0, 0))
    unit = next((unit for worker in workers if (unit := _speed(worker)[1])), "")
    for name in ("worker", "stage", "trials", "epochs"):
        table.add_column(name, justify="right" if name == "epochs" else "left", overflow="fold")
    table.add_column(unit, justify="right", no_wrap=True)
    table.add_column()
    for worker in workers:
        table.add_row(*map(Text, _worker_cells(worker)))
    return table


def _worker_cells(worker: WorkerActivity) -> tuple[str, str, str, str, str, str]:
    label = worker_label(worker.name)
    name = label if label != worker.name else f"{label} ({worker.device})"
    if worker.stage is None or worker.epochs is None:
        return (name, "waits", "", "", "", "")
    quiet = worker.quiet_seconds or 0.0
    silence = f"silent for {duration_text(quiet)}" if quiet >= QUIET_SECONDS else ""
    return (name, worker.stage, _numbers(worker.trials), _epochs(worker.epochs), _speed(worker)[0], silence)


def _worker_line(worker: WorkerActivity) -> str:
    """Return the cells of a worker in one line, for a narrow terminal."""
    name, stage, trials, epochs, speed, silence = _worker_cells(worker)
    if not trials:
        return f"{name} {stage}"
    _, unit = _speed(worker)
    parts = [f"{name}: {stage} {trials}", f"epoch {epochs}", f"{speed} {unit}".strip(), silence]
    return ", ".join(filter(None, parts))


def _numbers(trials: Sequence[int]) -> str:
    shown = ", ".join(map(str, trials[:SHOWN_TRIALS]))
    more = len(trials) - SHOWN_TRIALS
    return f"{shown} + {more}" if more > 0 else shown


def _epochs(epochs: tuple[int, int]) -> str:
    least, most = epochs
    return f"{least}" if least == most else f"{least}-{most}"


def _speed(worker: WorkerActivity) -> tuple[str, str]:
    """Return the speed of a worker and its unit."""
    if worker.images_per_second is not None:
        return f"{_rounded(worker.images_per_second):,}", "images/s"
    if worker.epochs_per_second is not None:
        return f"{60 * worker.epochs_per_second:.3g}", "epochs/min"
    return "", ""


def _rounded(number: float) -> int:
    """Return a number with three digits."""
    return int(float(f"{number:.3g}"))


def _row(label: Text, *cells: RenderableType) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=LABEL)
    for _ in cells:
        grid.add_column(overflow="fold")
    grid.add_row(label, *cells)
    return grid
