"""Shows how far a study is: bars on a terminal, plain lines elsewhere."""

import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hpo.errors import HpoError
from hpo.store.retry import until_available
from hpo.study.status import StageStatus, Status

log = logging.getLogger("hpo.progress")

LOOK_SECONDS = 1.0


class StudyProgress:
    """A context that follows a study on stderr, on a thread of its own: a look may have to wait long for the
    storage, and none that fails ends anything."""

    def __init__(self, look: Callable[[], Status]) -> None:
        self._look = look
        self._away = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._console = Console(file=sys.stderr)
        self._bars: dict[str, TaskID] = {}
        self._lines: dict[str, str] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TimeElapsedColumn(),
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
                self._thread.join()  # or it shows what it saw before the end
                self._show(until_available(self._look, threading.Event(), log))
        finally:
            self._progress.stop()

    def write(self, line: str) -> None:
        """Prints a line above the bars."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def look(self) -> None:
        """Looks and shows, or says once that it cannot, and once that it can again."""
        try:
            status = self._look()
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
            self.look()
            self._closed.wait(LOOK_SECONDS)

    def _show(self, status: Status) -> None:
        self._show_stage("search", status.search)
        if any(status.full.states.values()):
            self._show_stage("full training", status.full)

    def _show_stage(self, name: str, stage: StageStatus) -> None:
        best = "" if stage.best is None else f"best loss {stage.best.value:.4f} (trial {stage.best.trial})"
        if self._console.is_terminal:
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(name, total=stage.budget, best="")
            self._progress.update(self._bars[name], completed=stage.finished + stage.paused, best=best)
            return
        paused = f"{stage.paused} paused" if stage.paused else ""
        parts = (f"{name}: {stage.finished} of {stage.budget} trials finished", paused, best)
        line = ", ".join(part for part in parts if part)
        if line != self._lines.get(name):
            self._lines[name] = line
            self.write(line)
