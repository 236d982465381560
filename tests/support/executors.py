"""Executors for tests: workers that are not processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hpo.launch.executors.base import Executor, Listener, WorkerCommand
from hpo.launch.slot import Slot


@dataclass
class RemoteWorker:
    """A worker somewhere else. `calls` has the methods that the launcher called."""

    listener: Listener
    code: int | None
    ignores_stop: bool = False
    calls: list[str] = field(default_factory=list)

    def stop(self) -> None:
        self.calls.append("stop")
        if not self.ignores_stop:
            self._end(0)

    def kill(self) -> None:
        self.calls.append("kill")
        self._end(-signal.SIGKILL)

    def wait(self, seconds: float) -> bool:  # noqa: ARG002
        return self.code is not None

    def join_output(self, seconds: float) -> None:  # noqa: ARG002
        self.calls.append("join")

    def _end(self, code: int) -> None:
        self.code = code
        self.listener.ended()


class RemoteExecutor(Executor):
    """An executor without standby, whose workers end with `codes`, one after another. None: at the stop."""

    def __init__(self, slots: Sequence[Slot], *codes: int | None, ignores_stop: bool = False) -> None:
        self.slots, self._codes, self._ignores_stop = slots, list(codes), ignores_stop
        self.started: list[tuple[str, WorkerCommand, Slot]] = []
        self.workers: list[RemoteWorker] = []

    def start(self, name: str, command: WorkerCommand, slot: Slot, listener: Listener) -> RemoteWorker:
        self.started.append((name, command, slot))
        if not self._codes:
            raise ConnectionError("no machine is left")
        worker = RemoteWorker(listener, self._codes.pop(0), self._ignores_stop)
        self.workers.append(worker)
        listener.line(f"worker {len(self.workers)}")
        if worker.code is not None:
            listener.ended()
        return worker


class InlineExecutor(Executor):
    """An executor with one slot. Its worker is a call in the launcher's thread that returns the exit code."""

    def __init__(self, work: Callable[[WorkerCommand], int]) -> None:
        self.slots, self._work = [Slot("cpu", "inline")], work

    def start(self, name: str, command: WorkerCommand, slot: Slot, listener: Listener) -> RemoteWorker:  # noqa: ARG002
        worker = RemoteWorker(listener, self._work(command))
        listener.ended()
        return worker
