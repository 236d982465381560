"""The progress of a study on stderr: bars on a terminal, plain lines elsewhere."""

import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from hpo.errors import HpoError
from hpo.store.retry import until_available
from hpo.study.status import StageStatus, Status
from hpo.values.objective import Objective
from hpo.values.wording import counted

log = logging.getLogger("hpo.progress")

POLL_SECONDS = 1.0
"""Time between two reads of the status."""

FIGURES_WIDTH = 74
"""Columns of a terminal that names, figures and time take. The bar gets the rest."""

BAR_WIDTHS = (4, 40)
"""Narrowest and widest bar."""


class StudyProgress:
    """A context manager that shows the progress of a study.

    A thread of its own reads the status, because a read may wait long for the storage. A failed read is shown
    and tried again.
    """

    def __init__(self, read: Callable[[], Status], poll_seconds: float = POLL_SECONDS) -> None:
        self._read = read
        self._poll_seconds = poll_seconds
        self._away = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._console = Console(file=sys.stderr)
        self._bars: dict[str, TaskID] = {}
        self._lines: dict[str, str] = {}
        self._progress = Progress(
            *columns(self._console.width),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> "StudyProgress":
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        try:
            if kind is None:
                self._thread.join()  # an older status must not overwrite the final one
                self._show(until_available(self._read, threading.Event(), log))
        finally:
            self._progress.stop()

    def write(self, line: str) -> None:
        """Print a line above the bars."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def poll(self) -> None:
        """Read the status and show it. Print one line when an outage begins and one when it ends."""
        try:
            status = self._read()
        except HpoError as error:
            if not self._away:
                self.write(f"waiting for the storage: {error}")
            self._away = True
            return
        if self._away:
            self.write("the storage answers again")
        self._away = False
        if not self._closed.is_set():
            self._show(status)

    def _follow(self) -> None:
        while not self._closed.is_set():
            self.poll()
            self._closed.wait(self._poll_seconds)

    def _show(self, status: Status) -> None:
        self._show_stage("search", status.search, status.objective)
        if any(status.full.states.values()):
            self._show_stage("full", status.full, status.objective)

    def _show_stage(self, name: str, stage: StageStatus, objective: Objective) -> None:
        if self._console.is_terminal:
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(name, total=stage.budget, figures="")
            figures = progress_text(stage, str(stage.budget), objective)
            # A paused trial counts in the bar: until the end of the search, nearly all trials may be paused.
            completed = stage.finished + stage.paused
            self._progress.update(self._bars[name], completed=completed, figures=figures)
            return
        line = f"{name}: {progress_text(stage, counted(stage.budget, 'trial'), objective)}"
        if line != self._lines.get(name):
            self._lines[name] = line
            self.write(line)


def progress_text(stage: StageStatus, total: str, objective: Objective) -> str:
    """Return the figures of a stage, such as "2 of 16 trials finished, 9 paused". `total`: "16 trials"."""
    paused = [f"{stage.paused} paused"] if stage.paused else []
    best = []
    if stage.best is not None:
        value = f"{objective.title} {objective.show(stage.best.value)}"
        best = [f"best {value} (trial {stage.best.trial})"]
    return ", ".join([f"{stage.finished} of {total} finished", *paused, *best])


def columns(width: int) -> list[ProgressColumn]:
    """Return the columns of a terminal. A narrow terminal has no bar. Long figures break into lines."""
    name = TextColumn("{task.description}")
    figures = TextColumn("{task.fields[figures]}", table_column=Column(overflow="fold"))
    narrowest, widest = BAR_WIDTHS
    bar_width = min(widest, width - FIGURES_WIDTH)
    if bar_width < narrowest:
        return [name, figures]
    return [name, BarColumn(bar_width), figures, TimeElapsedColumn()]
