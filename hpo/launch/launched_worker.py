"""What the launcher knows of a worker that it started."""

import threading
from collections.abc import Callable
from uuid import uuid4

from hpo.launch.executors.base import Listener, Standby, WorkerHandle
from hpo.launch.slot import Slot


class LaunchedWorker:
    """A worker. Its lines go to `write` behind its label, and `changed` is set when it ends.

    `name`: in leases and logs. `started_at`: when the worker got its slot, by the launcher's clock.
    `has_output`: whether it has written a line since. `handle` is set when the executor has started it.
    """

    handle: WorkerHandle

    def __init__(
        self, label: str, write: Callable[[str], None], changed: threading.Event, started_at: float
    ) -> None:
        self.name, self.label, self.started_at = f"{label}-{uuid4().hex[:8]}", label, started_at
        self.has_output = False
        self._write, self._changed = write, changed

    @property
    def listener(self) -> Listener:
        """The callbacks for the executor."""
        return Listener(self._hear, self._changed.set)

    @property
    def code(self) -> int | None:
        """The exit code of the worker; see `WorkerHandle.code`."""
        return self.handle.code

    def _hear(self, line: str) -> None:
        self.has_output = True
        self._write(f"[{self.label}] {line}")


class LaunchedStandby(LaunchedWorker):
    """A worker without a slot."""

    handle: Standby

    def take(self, slot: Slot, label: str, started_at: float) -> bool:
        """Take the slot of a worker that has ended; return whether the standby received it."""
        if self.code is not None:
            return False
        # First, since the lines that follow have the label of the slot.
        self.label, self.started_at, self.has_output = label, started_at, False
        return self.handle.assign(slot)
