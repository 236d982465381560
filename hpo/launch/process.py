"""A process that the launcher started: a worker, or the standby."""

import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from hpo.launch.standby import Assignment
from hpo.settings import child_environment

REAP_SECONDS = 5.0
"""How long a killed process may take to end: one that a driver holds in the kernel ends when that lets go."""


class WorkerProcess:
    """A worker process, called `worker`. Its lines go to `write` with `label` before them.

    Its standard input is a pipe that this process holds: when this process ends, however it ends, the pipe
    closes and the worker stops (see `hpo worker --lifeline`). `said`: whether it has written a line. `since`:
    when it got its place, by the launcher's clock. `changed` is set when it ends.
    """

    def __init__(
        self,
        worker: str,
        label: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        write: Callable[[str], None],
        changed: threading.Event,
        since: float,
    ) -> None:
        self.worker, self.label, self.since = worker, label, since
        self.said = False
        self._write, self._changed = write, changed
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=child_environment(**environment),
            # An interrupt from the terminal is for the launcher, which then stops them in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"lines of {worker}", daemon=True)
        self._reader.start()

    @property
    def code(self) -> int | None:
        """The exit code, minus the signal's number if it was killed; None while it lives."""
        return self._process.poll()

    def assign(self, assignment: Assignment, label: str, since: float) -> bool:
        """Makes a standby the worker of a slot; whether it was alive to hear it.

        One that has heard it may have ended by now: then it had the slot, and what it claimed is to be freed.
        """
        assert self._process.stdin is not None
        if self.code is not None:
            return False
        self.label, self.since, self.said = label, since, False
        try:
            self._process.stdin.write(assignment.to_line())
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def stop(self) -> None:
        """Asks it to end, also if it is frozen."""
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)

    def wait(self, seconds: float) -> bool:
        """Whether it ends within that time."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.code is not None

    def kill(self) -> None:
        self._process.kill()

    def join_output(self, seconds: float) -> None:
        """Waits for its last words, at most so long."""
        self._reader.join(seconds)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said = True
            self._write(f"[{self.label}] {line.rstrip()}")
        self._process.wait()
        self._changed.set()
