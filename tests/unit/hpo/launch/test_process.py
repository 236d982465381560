"""A process of the launcher that is given a slot."""

import sys
import threading

import pytest

from hpo.launch.process import WorkerProcess
from hpo.launch.standby import Assignment

ASSIGNMENT = Assignment("cpu", {"PLACE": "a"})
ECHO = "import sys; print(sys.stdin.readline().strip(), flush=True)"


def child(code: str) -> tuple[WorkerProcess, list[str]]:
    lines: list[str] = []
    command = [sys.executable, "-I", "-c", code]
    made = WorkerProcess("w", "standby", command, {}, lines.append, threading.Event(), 0.0)
    return made, lines


def test_a_standby_hears_its_assignment_and_speaks_for_its_slot() -> None:
    standby, lines = child(ECHO)
    assert standby.assign(ASSIGNMENT, "a/0", 7.0)
    assert standby.wait(30)
    standby.join_output(30)
    assert lines == [f"[a/0] {ASSIGNMENT.to_line().strip()}"]
    assert standby.since == 7.0


def test_one_that_has_ended_gets_no_slot() -> None:
    standby, _ = child("")
    assert standby.wait(30)
    assert not standby.assign(ASSIGNMENT, "a/0", 7.0)


def test_one_that_ends_as_soon_as_it_has_heard_had_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    standby, _ = child(ECHO)
    pipe = standby._process.stdin
    assert pipe is not None
    flush = pipe.flush

    def flush_and_wait() -> None:
        flush()
        assert standby.wait(30)

    monkeypatch.setattr(pipe, "flush", flush_and_wait)
    assert standby.assign(ASSIGNMENT, "a/0", 7.0)
    assert standby.code == 0
