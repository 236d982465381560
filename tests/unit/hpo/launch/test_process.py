"""Standby processes that get a slot."""

import sys
import threading

import pytest

from hpo.launch.process import ProcessSpec, WorkerProcess
from hpo.launch.standby import Assignment

ASSIGNMENT = Assignment("cpu", {"PLACE": "a"})
ECHO = "import sys; print(sys.stdin.readline().strip(), flush=True)"


def start(code: str) -> tuple[WorkerProcess, list[str]]:
    lines: list[str] = []
    command = [sys.executable, "-I", "-c", code]
    spec = ProcessSpec("w", "standby", command, {})
    made = WorkerProcess(spec, lines.append, threading.Event(), 0.0)
    return made, lines


def test_standby_gets_its_assignment_and_the_label_of_the_slot() -> None:
    standby, lines = start(ECHO)
    assert standby.assign(ASSIGNMENT, "a/0", 7.0)
    assert standby.wait(30)
    standby.join_output(30)
    assert lines == [f"[a/0] {ASSIGNMENT.to_line().strip()}"]
    assert standby.started_at == 7.0


def test_ended_standby_gets_no_slot() -> None:
    standby, _ = start("")
    assert standby.wait(30)
    assert not standby.assign(ASSIGNMENT, "a/0", 7.0)


def test_standby_that_ends_after_its_assignment_had_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    standby, _ = start(ECHO)
    pipe = standby._process.stdin
    assert pipe is not None
    flush = pipe.flush

    def flush_and_wait() -> None:
        flush()
        assert standby.wait(30)

    monkeypatch.setattr(pipe, "flush", flush_and_wait)
    assert standby.assign(ASSIGNMENT, "a/0", 7.0)
    assert standby.code == 0
