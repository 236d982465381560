"""Starts worker processes, one per slot, and keeps them: logs, restarts, the end of all."""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO
from uuid import uuid4

from hpo import ledger
from hpo.devices import Slot
from hpo.errors import StorageError
from hpo.settings import child_environment
from hpo.storage import Storage

log = logging.getLogger("hpo.launch")

MOST_RESTARTS = 3
"""How often the worker of one slot is started anew."""

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0
"""How long workers get to hand back their trials before they are killed."""


@dataclass
class _Child:
    """The worker process of a slot; `starts` counts how often one was started there."""

    slot: Slot
    label: str
    process: subprocess.Popen[str]
    worker: str
    starts: int


class Launcher:
    """Worker processes for one study.

    A worker's standard input is a pipe that this process holds: when this process ends, however it ends,
    the pipe closes and the worker stops (see `hpo worker --lifeline`).
    """

    def __init__(
        self, storage: Storage, command: Sequence[str], slots: Sequence[Slot], write: Callable[[str], None]
    ) -> None:
        """`command`: the arguments of `hpo` that start a worker, without device and name. `write` takes
        the workers' lines."""
        self._storage, self._command, self._write = storage, list(command), write
        self._stopping = threading.Event()
        self._children: list[_Child] = []
        self._readers: list[threading.Thread] = []
        self._slots = slots

    def run(self, on_poll: Callable[[], None] = lambda: None) -> bool:
        """Runs all workers to their end; gives whether every slot ended well.

        `on_poll` is called about five times a second. On an interrupt all workers are stopped, and
        `KeyboardInterrupt` is raised.
        """
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            for number, slot in enumerate(self._slots):
                self._children.append(self._start(slot, f"{slot.label}/{number}", starts=1))
            running, good = list(self._children), True
            while running:
                self._stopping.wait(POLL_SECONDS)
                on_poll()
                for child in [c for c in running if c.process.poll() is not None]:
                    running.remove(child)
                    again = self._ended(child)
                    if again is not None:
                        running.append(again)
                        self._children.append(again)
                    elif child.process.returncode != 0:
                        good = False
            return good
        finally:
            self._stop_all()
            for reader in self._readers:  # the last words of the workers
                reader.join(GRACE_SECONDS)
            signal.signal(signal.SIGTERM, previous)

    def _start(self, slot: Slot, label: str, starts: int) -> _Child:
        worker = f"{label}-{uuid4().hex[:8]}"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "hpo", *self._command),
                *("--device", slot.device, "--name", worker, "--lifeline"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=child_environment(**slot.environment),
            # An interrupt from the terminal is for this process, which then stops them in order.
            start_new_session=True,
        )
        assert process.stdout is not None
        reader = threading.Thread(target=self._copy, args=(label, process.stdout), daemon=True)
        reader.start()
        self._readers.append(reader)
        return _Child(slot, label, process, worker, starts)

    def _copy(self, label: str, stream: IO[str]) -> None:
        for line in stream:
            self._write(f"[{label}] {line.rstrip()}")

    def _ended(self, child: _Child) -> _Child | None:
        """The successor of a worker that died, if it gets one."""
        code = child.process.returncode
        if code == 0:
            return None
        self._free_trials(child)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if code in NO_USE_TO_RESTART or child.starts > MOST_RESTARTS:
            self._write(f"[{child.label}] worker {how}; it is not started again")
            return None
        self._write(f"[{child.label}] worker {how}; starting it again ({child.starts} of {MOST_RESTARTS})")
        return self._start(child.slot, child.label, child.starts + 1)

    def _free_trials(self, child: _Child) -> None:
        """A dead worker's trials are claimable at once, not only when its leases run out."""
        try:
            with self._storage.transaction() as connection:
                ledger.forget_worker(connection, child.worker)
        except StorageError as error:
            log.warning("the trials of %s wait for their leases to end: %s", child.worker, error)

    def _stop_all(self) -> None:
        alive = [child for child in self._children if child.process.poll() is None]
        for child in alive:
            child.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for child in alive:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
                self._free_trials(child)


NO_USE_TO_RESTART = (2,)
"""Exit codes of mistakes in what the user wrote: another try would end the same way."""


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
