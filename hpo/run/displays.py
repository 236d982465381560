"""Displays of the progress of a study: bars on a terminal or in a notebook, plain lines elsewhere."""

import io
import sys
import threading
from abc import ABC, abstractmethod
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from hpo.study.status import StageStatus
from hpo.values.objective import Objective
from hpo.values.wording import counted

FIGURES_WIDTH = 74
"""Columns of a terminal that names, figures and time take. The bar gets the rest."""

BAR_WIDTHS = (4, 40)
"""Narrowest and widest bar."""

NOTEBOOK_WIDTH = 110
"""Columns of the bars in a notebook."""

HTML = "<pre style='line-height:normal;font-family:monospace'>{code}</pre>"

_bars = threading.Lock()
"""Held while bars are on the terminal: two threads cannot both redraw the last lines."""


class Display(ABC):
    """Shows the progress of the stages of a study, and lines."""

    @abstractmethod
    def start(self) -> None:
        """Begin to show."""

    @abstractmethod
    def show(self, name: str, stage: StageStatus, objective: Objective) -> None:
        """Show the figures of the stage `name`."""

    @abstractmethod
    def write(self, line: str) -> None:
        """Print a line without disturbing the figures."""

    @abstractmethod
    def stop(self) -> None:
        """Leave the last figures as they are."""


class Lines(Display):
    """A line on standard error for each change of the figures."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, force_jupyter=False)
        self._shown: dict[str, str] = {}

    def start(self) -> None:
        """Do nothing: the first figures are the first line."""

    def show(self, name: str, stage: StageStatus, objective: Objective) -> None:
        """Print the figures if they have changed."""
        line = f"{name}: {progress_text(stage, counted(stage.budget, 'trial'), objective)}"
        if line != self._shown.get(name):
            self._shown[name] = line
            self.write(line)

    def write(self, line: str) -> None:
        """Print a line."""
        _print(self._console, line)

    def stop(self) -> None:
        """Do nothing: the last line stays."""


class Bars(Display):
    """A bar for each stage, as rich draws it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(*columns(console.width), console=console)
        self._tasks: dict[str, TaskID] = {}

    def show(self, name: str, stage: StageStatus, objective: Objective) -> None:
        """Update the bar of the stage, or add it."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=stage.budget, figures="")
        # A paused trial counts in the bar: until the end of the search, nearly all trials may be paused.
        self._progress.update(
            self._tasks[name],
            completed=stage.finished + stage.paused,
            figures=progress_text(stage, str(stage.budget), objective),
        )


class TerminalBars(Bars):
    """Bars in the last lines of the terminal behind standard error."""

    def __init__(self) -> None:
        super().__init__(Console(file=sys.stderr, force_jupyter=False))

    def start(self) -> None:
        """Draw the bars several times a second."""
        self._progress.start()

    def write(self, line: str) -> None:
        """Print a line above the bars."""
        _print(self._console, line)

    def stop(self) -> None:
        """Draw the bars for the last time."""
        self._progress.stop()
        _bars.release()


class NotebookBars(Bars):
    """Bars in the output of a notebook's cell.

    Each update replaces the output under the same display id, from any thread and without ipywidgets, which
    rich's own live display needs.
    """

    def __init__(self) -> None:
        super().__init__(_page())
        self._handle: Any = None

    def start(self) -> None:
        """Add an output to the cell."""
        from IPython.display import display

        self._handle = display(self._bundle(), raw=True, display_id=True)

    def show(self, name: str, stage: StageStatus, objective: Objective) -> None:
        """Update the bar of the stage, or add it, and replace the output."""
        super().show(name, stage, objective)
        if self._handle is not None:
            self._handle.update(self._bundle(), raw=True)

    def write(self, line: str) -> None:
        """Print a line below the bars."""
        sys.stdout.write(f"{line}\n")

    def stop(self) -> None:
        """Do nothing: the output of the cell stays."""

    def _bundle(self) -> dict[str, str]:
        """Return the bars in the formats that a notebook may show."""
        page = _page()
        page.print(self._progress.get_renderable())
        html = page.export_html(inline_styles=True, code_format=HTML, clear=False)
        return {"text/html": html, "text/plain": page.export_text()}


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _page() -> Console:
    """Return a console that keeps what it prints."""
    return Console(
        file=io.StringIO(), width=NOTEBOOK_WIDTH, color_system="truecolor", force_jupyter=False, record=True
    )


def open_display() -> Display:
    """Return the display that fits the program: a notebook, a terminal, or neither."""
    if in_notebook():
        return NotebookBars()
    if Console(file=sys.stderr, force_jupyter=False).is_terminal and _bars.acquire(blocking=False):
        return TerminalBars()
    return Lines()


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    # Not rich's test, which finds the shell only while a cell runs, and not in a thread that outlives it.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def has_audience() -> bool:
    """Return whether somebody sees the output of this process at once."""
    return in_notebook() or (sys.stdout is not None and sys.stdout.isatty())


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
    name = TextColumn("{task.description}", markup=False)
    # Without markup: the name of a metric may have brackets.
    figures = TextColumn("{task.fields[figures]}", markup=False, table_column=Column(overflow="fold"))
    narrowest, widest = BAR_WIDTHS
    bar_width = min(widest, width - FIGURES_WIDTH)
    if bar_width < narrowest:
        return [name, figures]
    return [name, BarColumn(bar_width), figures, TimeElapsedColumn()]
