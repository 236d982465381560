"""The launcher with an executor whose workers are not processes of this machine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from hpo.launch.executors.base import Executor, Listener, WorkerCommand
from hpo.launch.launcher import Launcher
from hpo.launch.restarts import MAX_FAILURES
from hpo.launch.slot import Slot
from hpo.launch.timing import Timing

TIMING = Timing(clock=lambda: 0.0, standby_seconds=0.0, grace_seconds=0.0)
COMMAND = WorkerCommand(["small", "--promote"], {"HPO_HOME": "/there"})
SERVE = None
"""The code of a worker that works until it is stopped."""


@dataclass
class RemoteWorker:
    """A worker somewhere else. `calls` has the methods that the launcher called."""

    listener: Listener
    code: int | None
    ignores_stop: bool
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
    """An executor without standby, whose workers end with `codes`, one after another."""

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


SLOTS = (Slot("cuda:0", "ray"), Slot("cuda:0", "ray"))


def launch(executor: Executor, write: Callable[[str], None], is_open: bool = True) -> list[str]:
    """Run a launcher; return the names of the workers whose trials were reclaimed."""
    reclaimed: list[str] = []

    def reclaim(name: str) -> bool:
        reclaimed.append(name)
        return is_open

    Launcher(executor, COMMAND, reclaim, write, TIMING).run()
    return reclaimed


def test_worker_is_started_in_every_slot() -> None:
    executor, lines = RemoteExecutor(SLOTS, 0, 0), list[str]()
    reclaimed = launch(executor, lines.append, is_open=False)
    assert [(command, slot) for _, command, slot in executor.started] == [(COMMAND, slot) for slot in SLOTS]
    assert sorted(reclaimed) == sorted(name for name, _, _ in executor.started)
    assert lines == ["[ray/0] worker 1", "[ray/1] worker 2"]


def test_lost_machine_is_replaced_without_a_standby() -> None:
    lost = -signal.SIGKILL
    executor, lines = RemoteExecutor(SLOTS[:1], lost, 1, 1, 1, 1), list[str]()
    launch(executor, lines.append)
    assert len(executor.workers) == MAX_FAILURES + 2
    assert "[ray/0] worker was killed by SIGKILL; starting it again (1 of 20)" in lines
    assert lines[-1] == "[ray/0] worker ended with exit code 1; it is not started again"
    assert not any("standby" in line for line in lines)


@pytest.mark.parametrize("ignores_stop", [False, True])
def test_workers_are_stopped_in_order_when_no_worker_can_be_started(ignores_stop: bool) -> None:
    executor, lines = RemoteExecutor((*SLOTS, SLOTS[0]), SERVE, SERVE, ignores_stop=ignores_stop), list[str]()
    with pytest.raises(ConnectionError, match="no machine is left"):
        launch(executor, lines.append)
    killed = ["kill"] if ignores_stop else []
    assert [worker.calls for worker in executor.workers] == [["stop", *killed, "join"]] * 2
    assert len([line for line in lines if "is killed" in line]) == 2 * len(killed)


def test_launcher_runs_in_any_thread() -> None:
    """Only the main thread may install signal handlers."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    executor, reclaimed = RemoteExecutor(SLOTS, 0, 0), list[str]()

    def run() -> None:
        reclaimed.extend(launch(executor, lambda _line: None, is_open=False))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert len(reclaimed) == 2
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
