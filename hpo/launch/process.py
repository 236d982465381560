"""A process that the launcher started: a worker, or the standby."""

import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hpo.launch.standby import Assignment
from hpo.settings import child_environment


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How to start a process.

    `worker`: the name of the worker in leases and logs. `label` is written before its lines. `environment`
    is added to that of this process.
    """

    worker: str
    label: str
    command: Sequence[str]
    environment: Mapping[str, str]


class WorkerProcess:
    """A worker process whose output goes to `write`, line by line.

    Its standard input is a pipe that this process holds. However this process ends, the pipe closes and the
    worker stops (see `hpo worker --lifeline`). `started_at`: when the process got its slot, by the launcher's
    clock. `has_output`: whether it has written a line since. `changed` is set when the process ends.
    """

    def __init__(
        self, spec: ProcessSpec, write: Callable[[str], None], changed: threading.Event, started_at: float
    ) -> None:
        self.worker, self.label, self.started_at = spec.worker, spec.label, started_at
        self.has_output = False
        self._write, self._changed = write, changed
        self._process = subprocess.Popen(
            spec.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=child_environment(**spec.environment),
            # An interrupt from the terminal is for the launcher, which then stops its processes in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"lines of {spec.worker}", daemon=True)
        self._reader.start()

    @property
    def code(self) -> int | None:
        """The exit code, minus the signal's number if the process was killed. None: it is alive."""
        return self._process.poll()

    def assign(self, assignment: Assignment, label: str, started_at: float) -> bool:
        """Give a standby the slot of a worker; return whether the standby received it.

        If True, the standby holds the slot even if it has ended meanwhile. Its trials are then reclaimed like
        those of any worker.
        """
        assert self._process.stdin is not None
        if self.code is not None:
            return False
        self.label, self.started_at, self.has_output = label, started_at, False
        try:
            self._process.stdin.write(assignment.to_line())
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def stop(self) -> None:
        """Ask the process to end, and wake it if it is frozen."""
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the process to end; return whether it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.code is not None

    def kill(self) -> None:
        self._process.kill()

    def join_output(self, seconds: float) -> None:
        """Wait at most `seconds` until the last line is written."""
        self._reader.join(seconds)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.has_output = True
            self._write(f"[{self.label}] {line.rstrip()}")
        self._process.wait()
        self._changed.set()
