"""The launcher with an executor whose workers are not processes of this machine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest
from support.executors import RemoteExecutor

from hpo.launch.executors.base import Executor, WorkerCommand
from hpo.launch.launcher import Launcher
from hpo.launch.output import Output
from hpo.launch.restarts import MAX_FAILURES
from hpo.launch.slot import Slot
from hpo.launch.timing import Timing

TIMING = Timing(clock=lambda: 0.0, standby_seconds=0.0, grace_seconds=0.0)
COMMAND = WorkerCommand(["small", "--promote"], {"HPO_HOME": "/there"})
SERVE = None
"""The code of a worker that works until it is stopped."""


SLOTS = (Slot("cuda:0", "ray"), Slot("cuda:0", "ray"))


def launch(executor: Executor, write: Callable[[str], None], is_open: bool = True) -> list[str]:
    """Run a launcher; return the names of the workers whose trials were reclaimed."""
    reclaimed: list[str] = []

    def reclaim(name: str) -> bool:
        reclaimed.append(name)
        return is_open

    Launcher(executor, COMMAND, reclaim, Output(write, write), TIMING).run()
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
