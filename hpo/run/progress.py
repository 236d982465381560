"""The progress of a study on a display, read by a thread of its own."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from hpo.errors import HpoError
from hpo.run.displays import Display, open_display
from hpo.store.retry import until_available
from hpo.study.status import Status

log = logging.getLogger("hpo.progress")

POLL_SECONDS = 1.0
"""Time between two reads of the status."""


class StudyProgress:
    """A context manager that shows the progress of a study.

    A thread of its own reads the status, because a read may wait long for the storage. A failed read is shown
    and tried again.
    """

    def __init__(
        self,
        read: Callable[[], Status],
        poll_seconds: float = POLL_SECONDS,
        open_display: Callable[[], Display] = open_display,
    ) -> None:
        self._read = read
        self._poll_seconds = poll_seconds
        self._display = open_display()
        self._away = False
        self._closed = threading.Event()
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
                self._show(until_available(self._read, threading.Event(), log))
        finally:
            self._display.stop()

    def write(self, line: str) -> None:
        """Print a line beside the figures."""
        self._display.write(line)

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
        self._display.show("search", status.search, status.objective)
        if any(status.full.states.values()):
            self._display.show("full", status.full, status.objective)
