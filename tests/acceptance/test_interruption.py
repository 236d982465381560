"""Studies whose processes are killed, and studies that several launchers serve at once."""

import json
import os
import signal
import subprocess
from contextlib import suppress

import pytest
from support.processes import children, until, until_gone, wait_for_line
from support.shell import SMALL_STUDY, Shell

LONG_STUDY = SMALL_STUDY.replace("epochs = 3", "epochs = 5000")
"""A study whose trials do not end during a test."""


def search_of(shell: Shell, study: str = "small") -> dict[str, object]:
    search: dict[str, object] = json.loads(shell.hpo("status", study, "--json").stdout)["search"]
    return search


def number_in(line: str) -> int:
    """Return the trial number in a line like `search: training 3 (batch size 16, pack of 1)`."""
    return int(line.partition("training ")[2].split()[0])


def assert_search_is_whole(shell: Shell, study: str = "small") -> dict[str, int]:
    """Assert that every trial has ended once; return the number of trials by state."""
    search = search_of(shell, study)
    states = search["states"]
    assert isinstance(states, dict)
    assert states["COMPLETE"] + states["PRUNED"] + states["FAIL"] == search["budget"] == 12
    assert states["WAITING"] == states["RUNNING"] == 0
    assert search["distinct_cells"] == 12
    return states


@pytest.mark.slow
def test_killed_run_continues_when_called_again(shell: Shell) -> None:
    run = shell.start("run", "small.toml", "--gpus", "cpu", "--per-device", "2", "--width", "2")
    wait_for_line(run, "search: training")
    workers = children(run.pid)
    run.kill()  # only the launcher: the workers see their lifeline close and release their trials
    until_gone(workers)
    again = shell.hpo("run", "small.toml", "--gpus", "cpu", "--per-device", "2")
    assert "Test accuracy" in again.stdout
    assert_search_is_whole(shell)


def test_killed_worker_is_replaced_and_its_trials_run_again(shell: Shell) -> None:
    shell.hpo("study", "create", "small.toml")
    workers = shell.start("workers", "small", "--gpus", "cpu", "--per-device", "2", "--width", "2")
    wait_for_line(workers, "search: training")
    os.kill(next(iter(children(workers.pid))), signal.SIGKILL)
    assert "was killed by SIGKILL; " in wait_for_line(workers, "was killed")
    assert workers.stdout is not None
    workers.stdout.read()
    assert workers.wait() == 0
    assert_search_is_whole(shell)


@pytest.mark.slow
def test_paused_trials_survive_their_workers(shell: Shell) -> None:
    pausing = SMALL_STUDY.replace('name = "none"', 'name = "pause"').replace("epochs = 3", "epochs = 5", 1)
    shell.write("pausing.toml", pausing.replace('name = "random"', 'name = "random"\nstartup = 4'))
    shell.hpo("study", "create", "pausing.toml")
    workers = shell.start("workers", "pausing", "--gpus", "cpu", "--per-device", "2", "--width", "2")
    for _ in range(3):
        for _ in range(3):
            wait_for_line(workers, "search: training")
        os.kill(next(iter(children(workers.pid))), signal.SIGKILL)
        wait_for_line(workers, "was killed by SIGKILL")
    output = workers.communicate(timeout=120)[0]
    assert workers.returncode == 0, output
    states = assert_search_is_whole(shell, "pausing")
    assert 1 <= states["COMPLETE"] < 12
    assert states["FAIL"] == 0


def standby_of(workers: subprocess.Popen[str], after: int = 0) -> int:
    """Wait for a standby with a process id above `after`; return its process id."""

    def poll() -> int | None:
        lines = children(workers.pid).items()
        return next((pid for pid, line in lines if "--standby" in line and pid > after), None)

    return until("a standby", poll)


@pytest.mark.slow
def test_standby_continues_the_trials_of_a_killed_worker(shell: Shell) -> None:
    shell.write("long.toml", LONG_STUDY)
    shell.hpo("study", "create", "long.toml")
    workers = shell.start("workers", "long", "--gpus", "cpu", "--per-device", "1", "--width", "1")
    trial = number_in(wait_for_line(workers, "search: training"))
    standby = standby_of(workers)
    os.kill(next(iter(children(workers.pid))), signal.SIGKILL)
    assert "takes its place (1 of 20)" in wait_for_line(workers, "was killed by SIGKILL")
    assert number_in(wait_for_line(workers, "search: training")) == trial
    assert standby_of(workers, after=standby)
    left = children(workers.pid)
    workers.send_signal(signal.SIGINT)
    workers.communicate(timeout=60)
    assert workers.returncode == 130
    until_gone(left)


@pytest.mark.slow
def test_frozen_worker_stops_with_the_others(shell: Shell) -> None:
    shell.write("long.toml", LONG_STUDY)
    shell.hpo("study", "create", "long.toml")
    workers = shell.start("workers", "long", "--gpus", "cpu", "--per-device", "2", "--width", "1")
    for _ in range(2):
        wait_for_line(workers, "search: training")
    frozen = next(iter(children(workers.pid)))
    os.kill(frozen, signal.SIGSTOP)
    try:
        standby_of(workers)  # the launcher still works
        assert frozen in children(workers.pid)
        workers.send_signal(signal.SIGTERM)
        output = workers.communicate(timeout=60)[0]
        assert workers.returncode == 130, output
        until_gone([frozen])
    finally:
        with suppress(ProcessLookupError):  # a test that passes has ended the process already
            os.kill(frozen, signal.SIGKILL)


@pytest.mark.slow
def test_two_launchers_serve_one_study(shell: Shell) -> None:
    shell.hpo("study", "create", "small.toml")
    both = [shell.start("workers", "small", "--gpus", "cpu", "--per-device", "1") for _ in range(2)]
    for workers in both:
        output = workers.communicate(timeout=240)[0]
        assert workers.returncode == 0, output
    assert_search_is_whole(shell)
    assert "2 full trainings queued" in shell.hpo("promote", "small").stderr
    assert "nothing to do" in shell.hpo("promote", "small").stderr


@pytest.mark.slow
def test_interrupt_stops_all_workers_and_loses_no_trial(shell: Shell) -> None:
    shell.hpo("study", "create", "small.toml")
    workers = shell.start("workers", "small", "--gpus", "cpu", "--per-device", "2", "--width", "1")
    wait_for_line(workers, "search: training")
    workers.send_signal(signal.SIGINT)
    output = workers.communicate(timeout=60)[0]
    assert workers.returncode == 130
    assert "Traceback" not in output
    states = search_of(shell)["states"]
    assert isinstance(states, dict)
    assert states["RUNNING"] == 0
    assert sum(states.values()) == 12
    shell.hpo("workers", "small", "--gpus", "cpu")
    assert_search_is_whole(shell)
