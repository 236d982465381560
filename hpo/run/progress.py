"""The progress of a study on a display, read by a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from hpo.errors import HpoError
from hpo.run.displays import Display, open_display
from hpo.store.retry import until_available
from hpo.study.live import LiveStatus

log = logging.getLogger("hpo.progress")

POLL_SECONDS = 1.0
"""Least time between two reads of the status."""

REST = 20.0
"""Least time between two reads, in durations of a read: watching a large study costs the storage little."""


class StudyProgress:
    """A context manager that shows the progress of a study.

    A thread of its own reads the status, because a read may wait long for the storage. A failed read is shown
    and tried again. `log_file` has the lines of the workers.
    """

    def __init__(
        self,
        read: Callable[[], LiveStatus],
        log_file: Path | None = None,
        poll_seconds: float = POLL_SECONDS,
        open_display: Callable[[], Display] = open_display,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._clock = read, clock
        self._poll_seconds = poll_seconds
        self._display = open_display()
        self._display.log = log_file
        self._away = False
        self._closed, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def __enter__(self) -> "StudyProgress":
        self._display.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        try:
            if kind is None:
                self._thread.join()  # an older status must not overwrite the final one
                self._display.show(until_available(self._read, threading.Event(), log))
        finally:
            self._display.stop()

    def write(self, line: str) -> None:
        """Show a line beside the figures."""
        self._display.write(line)

    def hear(self, line: str) -> None:
        """Take a line of a worker."""
        self._display.hear(line)

    def wait(self) -> None:
        """Wait until no worker of the study has anything to do."""
        self._over.wait()

    def poll(self) -> None:
        """Read the status and show it. Print one line when an outage begins and one when it ends."""
        try:
            live = self._read()
        except HpoError as error:
            if not self._away:
                self.write(f"waiting for the storage: {error}")
            self._away = True
            return
        if self._away:
            self.write("the storage answers again")
        self._away = False
        if not self._closed.is_set():
            self._display.show(live)
        if live.is_over:
            self._over.set()

    def step(self, wait: Callable[[float], object]) -> None:
        """Poll, then wait for the next poll."""
        begin = self._clock()
        self.poll()
        wait(max(self._poll_seconds, REST * (self._clock() - begin)))

    def _follow(self) -> None:
        while not self._closed.is_set():
            self.step(self._closed.wait)
