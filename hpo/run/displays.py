"""Displays of a study: a live screen on a terminal or in a notebook, plain lines elsewhere."""

import io
import logging
import re
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from hpo.run.screen import Screen
from hpo.study.live import LiveStatus
from hpo.study.status import StageStatus
from hpo.values.objective import Objective
from hpo.values.wording import counted

NOTEBOOK_WIDTH = 110
"""Columns of the screen in a notebook."""

NOTES = 3
"""Most lines of a launcher that a screen keeps."""

LABEL = re.compile(r"\[[^]]*\] ")
"""How a line of a worker or about a worker begins."""

HTML = "<pre style='line-height:normal;font-family:monospace'>{code}</pre>"

_screen = threading.Lock()
"""Held while a screen is on the terminal: two threads cannot both redraw the last lines."""


class Display(ABC):
    """Shows a study while its workers train. `log` is the file that has the lines of the workers."""

    log: Path | None = None

    @abstractmethod
    def start(self) -> None:
        """Begin to show."""

    @abstractmethod
    def show(self, live: LiveStatus) -> None:
        """Show the figures of the study."""

    @abstractmethod
    def write(self, line: str) -> None:
        """Show a line that a user should read."""

    def hear(self, line: str) -> None:
        """Take a line of a worker."""
        self.write(line)

    @abstractmethod
    def stop(self) -> None:
        """Leave the last figures as they are."""


class Lines(Display):
    """A line for each change of the figures."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stderr, force_jupyter=False)
        self._shown: dict[str, str] = {}

    def start(self) -> None:
        """Do nothing: the first figures are the first line."""

    def show(self, live: LiveStatus) -> None:
        """Print the figures of the stages that have changed."""
        status = live.status
        stages = {"search": status.search, **({"full": status.full} if status.full.present else {})}
        for name, stage in stages.items():
            line = f"{name}: {progress_text(stage, status.objective)}"
            if line != self._shown.get(name):
                self._shown[name] = line
                self.write(line)

    def write(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Do nothing: the last line stays."""


class Notes:
    """The last lines about workers, and the last line of each worker that has ended with an error."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=NOTES)
        self._heard: dict[str, str] = {}

    def hear(self, line: str) -> None:
        """Take a line of a worker, which may turn out to be its last."""
        if match := LABEL.match(line):
            self._heard[match[0]] = line

    def write(self, line: str) -> None:
        """Take a line about a worker. The worker's own last line goes before: it may say why it ended."""
        match = LABEL.match(line)
        if match and (heard := self._heard.pop(match[0], None)) is not None:
            self.lines.append(heard)
        self.lines.append(line)


class TerminalScreen(Display):
    """The screen of a study in the last lines of a terminal, where its last state stays."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, force_jupyter=False)
        self._notes, self._last = Notes(), LiveStatusText()
        # Another stream than the terminal's keeps what is printed to it.
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            auto_refresh=False,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
        )
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []

    def start(self) -> None:
        """Draw the screen. Lines of the log appear above it."""
        self._live.start()
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.__stderr__,):
                self._handlers.append((handler, handler.setStream(sys.stderr)))

    def show(self, live: LiveStatus) -> None:
        """Draw the screen anew."""
        self._last.live = live
        self._live.refresh()

    def write(self, line: str) -> None:
        """Show a line below the figures."""
        self._notes.write(line)
        self._live.refresh()

    def hear(self, line: str) -> None:
        """Keep the last line of each worker. The log file has them all."""
        self._notes.hear(line)

    def stop(self) -> None:
        """Draw the screen for the last time."""
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._live.stop()
        _screen.release()

    def _render(self) -> RenderableType:
        size = self._console.size
        return self._last.render(Screen(size.width, size.height, tuple(self._notes.lines), self.log))


class LiveStatusText:
    """The last status of a study as a screen, an empty one before the first status."""

    live: LiveStatus | None = None

    def render(self, screen: Screen) -> RenderableType:
        """Return the screen."""
        return Text() if self.live is None else screen.render(self.live)


class NotebookScreen(Display):
    """The screen of a study in the output of a notebook's cell.

    Each update replaces the output under the same display id, from any thread and without ipywidgets, which
    rich's own live display needs.
    """

    def __init__(self) -> None:
        self._notes, self._last = Notes(), LiveStatusText()
        self._handle: Any = None

    def start(self) -> None:
        """Add an output to the cell."""
        from IPython.display import display

        self._handle = display(self._bundle(), raw=True, display_id=True)

    def show(self, live: LiveStatus) -> None:
        """Replace the output."""
        self._last.live = live
        if self._handle is not None:
            self._handle.update(self._bundle(), raw=True)

    def write(self, line: str) -> None:
        """Show a line below the figures, at the next update."""
        self._notes.write(line)

    def hear(self, line: str) -> None:
        """Keep the last line of each worker. The log file has them all."""
        self._notes.hear(line)

    def stop(self) -> None:
        """Do nothing: the output of the cell stays."""

    def _bundle(self) -> dict[str, str]:
        """Return the screen in the formats that a notebook may show."""
        page = Console(
            file=io.StringIO(),
            width=NOTEBOOK_WIDTH,
            color_system="truecolor",
            force_jupyter=False,
            record=True,
        )
        page.print(self._last.render(Screen(NOTEBOOK_WIDTH, notes=tuple(self._notes.lines), log=self.log)))
        html = page.export_html(inline_styles=True, code_format=HTML, clear=False)
        return {"text/html": html, "text/plain": page.export_text()}


def open_display(stream: TextIO | None = None) -> Display:
    """Return the display that fits the program: a notebook, a terminal behind `stream`, or neither.

    Without a stream: standard error.
    """
    stream = stream or sys.stderr
    if in_notebook():
        return NotebookScreen()
    console = Console(file=stream, force_jupyter=False)
    # A dumb terminal cannot go back to lines that are written.
    if console.is_terminal and not console.is_dumb_terminal and _screen.acquire(blocking=False):
        return TerminalScreen(stream)
    return Lines(stream)


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    # Not rich's test, which finds the shell only while a cell runs, and not in a thread that outlives it.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def has_audience() -> bool:
    """Return whether somebody sees the output of this process at once."""
    return in_notebook() or (sys.stdout is not None and sys.stdout.isatty())


def progress_text(stage: StageStatus, objective: Objective) -> str:
    """Return the figures of a stage, such as "2 of 16 trials finished, 9 paused"."""
    paused = [f"{stage.paused} paused"] if stage.paused else []
    best = []
    if stage.best is not None:
        value = f"{objective.title} {objective.show(stage.best.value)}"
        best = [f"best {value} (trial {stage.best.trial})"]
    return ", ".join([f"{stage.finished} of {counted(stage.budget, 'trial')} finished", *paused, *best])
