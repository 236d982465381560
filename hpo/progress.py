"""Shows how far a study is: bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hpo.status import StageStatus, Status

LOOK_SECONDS = 1.0


class StudyProgress:
    """A context that follows a study on stderr; `poll` may be called as often as one likes."""

    def __init__(self, look: Callable[[], Status], clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._clock, self._next = look, clock, 0.0
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._show(self._look())
        self._progress.stop()

    def write(self, line: str) -> None:
        """Prints a line above the bars."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def poll(self) -> None:
        """Looks again if `LOOK_SECONDS` have passed."""
        if self._clock() >= self._next:
            self._next = self._clock() + LOOK_SECONDS
            self._show(self._look())

    def _show(self, status: Status) -> None:
        self._show_stage("search", status.search)
        if any(status.full.states.values()):
            self._show_stage("full training", status.full)

    def _show_stage(self, name: str, stage: StageStatus) -> None:
        best = "" if stage.best is None else f"best loss {stage.best.value:.4f} (trial {stage.best.trial})"
        if self._console.is_terminal:
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(name, total=stage.budget, best="")
            self._progress.update(self._bars[name], completed=stage.finished, best=best)
            return
        line = f"{name}: {stage.finished} of {stage.budget} trials finished" + (f", {best}" if best else "")
        if line != self._lines.get(name):
            self._lines[name] = line
            self.write(line)
