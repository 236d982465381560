"""Workers and standbys as processes of this machine."""

import json
import sys
import threading

import pytest

from hpo.launch import devices
from hpo.launch.executors.base import Listener, WorkerCommand
from hpo.launch.executors.local import WORKER, LocalExecutor, WorkerProcess, local_executor
from hpo.launch.slot import Slot
from hpo.launch.standby import Assignment
from hpo.values.resources import Resources

SLOTS = (
    Slot("cuda:0", "gpu0", {"PLACE": "0", "OMP_NUM_THREADS": "2"}),
    Slot("cuda:0", "gpu1", {"PLACE": "1", "OMP_NUM_THREADS": "2"}),
)
ECHO = "import sys; print(sys.stdin.readline().strip(), flush=True)"
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
NAMED = ["--name", "w", "--lifeline"]


class Heard:
    """What a listener is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended = threading.Event()
        self.listener = Listener(self.lines.append, self.ended.set)


def executor(code: str) -> LocalExecutor:
    return LocalExecutor(SLOTS, program=[sys.executable, "-I", "-c", code])


def start_standby(code: str) -> tuple[WorkerProcess, list[str]]:
    heard = Heard()
    return executor(code).start_standby("w", WorkerCommand([]), heard.listener), heard.lines


def test_worker_runs_the_command_with_its_name_device_and_environment() -> None:
    heard, command = Heard(), WorkerCommand(["small", "--promote"], {"HPO_HOME": "/there", "PLACE": "none"})
    worker = executor(SHOW).start("w", command, SLOTS[1], heard.listener)
    assert worker.wait(30)
    worker.join_output(30)
    (line,) = heard.lines
    words, environment = json.loads(line)
    assert words == ["small", "--promote", *NAMED, "--device", "cuda:0"]
    assert {"PLACE": "1", "OMP_NUM_THREADS": "2", "HPO_HOME": "/there"}.items() <= environment.items()


def test_standby_has_what_all_slots_share() -> None:
    standby, lines = start_standby(SHOW)
    assert standby.wait(30)
    standby.join_output(30)
    words, environment = json.loads(lines[0])
    assert words == [*NAMED, "--standby"]
    assert environment["OMP_NUM_THREADS"] == "2"
    assert "PLACE" not in environment


def test_listener_hears_the_end_after_the_last_line() -> None:
    heard, code = Heard(), "print(1); print(2); raise SystemExit(7)"
    worker = executor(code).start("w", WorkerCommand([]), SLOTS[0], heard.listener)
    assert heard.ended.wait(30)
    assert worker.code == 7
    assert heard.lines == ["1", "2"]


def test_standby_gets_its_slot() -> None:
    standby, lines = start_standby(ECHO)
    assert standby.assign(SLOTS[1])
    assert standby.wait(30)
    standby.join_output(30)
    assert lines == [Assignment(SLOTS[1].device, SLOTS[1].environment).to_line().strip()]


def test_ended_standby_gets_no_slot() -> None:
    standby, _ = start_standby("")
    assert standby.wait(30)
    assert not standby.assign(SLOTS[0])


def test_standby_that_ends_after_its_assignment_had_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    standby, _ = start_standby(ECHO)
    pipe = standby._process.stdin
    assert pipe is not None
    flush = pipe.flush

    def flush_and_wait() -> None:
        flush()
        assert standby.wait(30)

    monkeypatch.setattr(pipe, "flush", flush_and_wait)
    assert standby.assign(SLOTS[0])
    assert standby.code == 0


def test_workers_are_this_python_on_the_chosen_devices() -> None:
    assert (sys.executable, "-P", "-m", "hpo", "worker") == WORKER
    made = local_executor("cpu", 2, width=8)
    assert [slot.label for slot in made.slots] == ["cpu", "cpu"]
    assert made.width == 8


def test_no_gpu_is_counted_for_trials_that_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_present_gpus", lambda _visible: pytest.fail("counted"))
    assert local_executor(resources=Resources(gpus=0, cpus=1)).slots[0].device == "cpu"
