"""Stop a worker on a signal, in the middle of an epoch."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class StopRequested(BaseException):
    """Raised inside an epoch when the process has to stop."""


class Interruption:
    """Sets `stop`, and breaks off an epoch that is under way. Anything else runs to its end."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._interruptible = False

    def listen_to_signals(self) -> None:
        """Stop on SIGTERM and SIGINT."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write)

        def wait_for_signal() -> None:
            os.read(read, 1)
            # Not in the handler, which may interrupt a wait that holds the event's lock.
            self._stop.set()

        threading.Thread(target=wait_for_signal, name="signals", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _signal, _frame: self._break_off())

    def stop_now(self) -> None:
        """Set `stop`, and raise `StopRequested` if the caller is inside an epoch."""
        self._stop.set()
        self._break_off()

    def interrupt(self) -> NoReturn:
        """Raise `StopRequested`. The caller is inside an epoch, and the process has to stop."""
        raise StopRequested

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal raise `StopRequested` inside the block."""
        self._interruptible = True
        try:
            if self._stop.is_set():  # set after the loop last checked it
                raise StopRequested
            yield
        finally:
            self._interruptible = False

    def _break_off(self) -> None:
        if self._interruptible:
            self._interruptible = False
            raise StopRequested
