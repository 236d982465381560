"""Processes of trials that are forked from a template."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import until_gone

from hpo.functions.failures import FunctionKilledError
from hpo.functions.process import FunctionProcess
from hpo.functions.session import FunctionTrainer
from hpo.functions.spares import FunctionProcesses
from hpo.functions.task import FunctionLimits, FunctionRuntime, FunctionTask
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult
from hpo.values.objective import Objective

TASK = FunctionTask("forked:fit", "search", 3, "last", Objective("loss", "minimize", "loss"), "cpu")

FIT = """
import os

COUNT = []

def fit(trial):
    COUNT.append(1)
    if trial.params.get("code") is not None:
        os._exit(trial.params["code"])
    first = trial.load() or 0
    for epoch in trial.epochs:
        trial.save(epoch)
        yield {"loss": first, "pid": os.getpid(), "session": os.getsid(0), "count": len(COUNT)}
"""

Start = Callable[[str], FunctionProcesses]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return a call that writes a module with this head and returns its processes, with a ready spare."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started: list[FunctionProcesses] = []

    def start(head: str = "") -> FunctionProcesses:
        (tmp_path / "forked.py").write_text(head + FIT)
        started.append(FunctionProcesses("forked:fit", tmp_path))
        started[-1].code()
        return started[-1]

    yield start
    for processes in started:
        processes.close()


def spare(processes: FunctionProcesses) -> FunctionProcess:
    assert processes._spare is not None
    return processes._spare


def train(processes: FunctionProcesses, code: int | None = None) -> list[EpochResult]:
    """Train a trial to its end."""
    trainer = FunctionTrainer(TASK, processes, FunctionRuntime(limits=FunctionLimits(poll_seconds=0.01)))
    session = trainer.start({0: Candidate({"code": code}, 0)})
    results = []
    try:
        while session.members:
            results += session.epoch()
    finally:
        trainer.close()
    return results


def test_each_trial_is_a_fork_with_a_session_of_its_own(start: Start) -> None:
    processes = start("")
    template = spare(processes)
    trials = [train(processes) for _ in range(3)]
    pids = [trial[0].metrics["pid"] for trial in trials]
    assert len(set(pids)) == 3
    assert template.pid not in pids
    assert spare(processes) is template
    assert [trial[0].metrics["session"] for trial in trials] == pids
    assert [trial[-1].metrics["count"] for trial in trials] == [1, 1, 1]  # no trial sees another one
    until_gone([int(pid) for pid in pids])


@pytest.mark.parametrize(
    "head",
    [
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        "FILE = open(__file__)\n",
        "import socket\nENDS = socket.socketpair()\n",
    ],
    ids=["thread", "open file", "connection"],
)
def test_module_that_a_fork_would_share_gets_new_processes(start: Start, head: str) -> None:
    processes = start(head)
    first = spare(processes)
    assert train(processes)[0].metrics["pid"] == first.pid
    assert spare(processes) is not first
    assert train(processes)[0].metrics["count"] == 1


def test_fork_tells_its_exit_code(start: Start) -> None:
    processes = start("")
    template = spare(processes)
    with pytest.raises(Exception, match=r"^its process ended with exit code 7$"):
        train(processes, code=7)
    assert [result.epoch for result in train(processes)] == [1, 2, 3]
    assert spare(processes) is template


def test_killed_fork_is_told_from_one_that_ended(start: Start) -> None:
    process = start("").take()
    assert process.receive(10.0) is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(FunctionKilledError, match="SIGKILL"):
        process.receive(10.0)


def test_trial_goes_on_in_another_process_if_the_template_is_killed(start: Start) -> None:
    processes = start("")
    trainer = FunctionTrainer(TASK, processes, FunctionRuntime(limits=FunctionLimits(poll_seconds=0.01)))
    session = trainer.start({0: Candidate({}, 0)})
    (first,) = session.epoch()
    os.kill(spare(processes).pid, signal.SIGKILL)
    until_gone([int(first.metrics["pid"])])
    (second,) = session.epoch()
    trainer.close()
    assert (second.epoch, second.metrics["loss"]) == (2, 1)  # from the state of the first epoch
    assert second.metrics["pid"] != first.metrics["pid"]


def test_sigterm_ends_no_fork(start: Start) -> None:
    processes = start("")
    template = spare(processes)
    trainer = FunctionTrainer(TASK, processes, FunctionRuntime(limits=FunctionLimits(poll_seconds=0.01)))
    session = trainer.start({0: Candidate({}, 0)})
    (first,) = session.epoch()
    os.killpg(int(first.metrics["pid"]), signal.SIGTERM)
    os.killpg(template.pid, signal.SIGTERM)  # the keeper is in this group
    (second,) = session.epoch()
    trainer.close()
    assert second.metrics["pid"] == first.metrics["pid"]
