"""Studies that are killed, and studies that several people serve at once."""

import json
import os
import signal
import subprocess

import pytest
from shell import Shell

pytestmark = pytest.mark.slow


def search_of(shell: Shell) -> dict[str, object]:
    search: dict[str, object] = json.loads(shell.hpo("status", "small", "--json").stdout)["search"]
    return search


def assert_search_is_whole(shell: Shell) -> None:
    search = search_of(shell)
    states = search["states"]
    assert isinstance(states, dict)
    assert states["COMPLETE"] + states["PRUNED"] + states["FAIL"] == search["budget"] == 12
    assert states["WAITING"] == states["RUNNING"] == 0
    assert search["distinct_cells"] == 12


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    """The first line of the process that contains `words`."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"it ended without saying {words!r}")


def test_a_run_killed_in_the_search_carries_on_when_called_again(shell: Shell) -> None:
    run = shell.start("run", "small.toml", "--gpus", "cpu", "--per-device", "2", "--width", "2")
    wait_for(run, "search: training")
    run.kill()  # the launcher alone: its workers see their lifeline go and hand back their trials
    assert run.stdout is not None
    run.stdout.read()  # ends when the last process that holds the stream has ended
    again = shell.hpo("run", "small.toml", "--gpus", "cpu", "--per-device", "2")
    assert "Test accuracy" in again.stdout
    assert_search_is_whole(shell)


def test_a_worker_killed_is_replaced_and_its_trials_run_again(shell: Shell) -> None:
    shell.hpo("study", "create", "small.toml")
    workers = shell.start("workers", "small", "--gpus", "cpu", "--per-device", "2", "--width", "2")
    wait_for(workers, "search: training")
    children = subprocess.run(
        ["pgrep", "-P", str(workers.pid)], text=True, capture_output=True, check=True
    ).stdout
    victim = int(children.split()[0])
    os.kill(victim, signal.SIGKILL)
    assert "was killed by SIGKILL; starting it again" in wait_for(workers, "was killed")
    assert workers.stdout is not None
    workers.stdout.read()
    assert workers.wait() == 0
    assert_search_is_whole(shell)


def test_two_shells_serve_one_study(shell: Shell) -> None:
    shell.hpo("study", "create", "small.toml")
    both = [shell.start("workers", "small", "--gpus", "cpu", "--per-device", "1") for _ in range(2)]
    for workers in both:
        said = workers.communicate(timeout=240)[0]
        assert workers.returncode == 0, said
    assert_search_is_whole(shell)
    assert "2 full trainings queued" in shell.hpo("promote", "small").stderr
    assert "nothing to do" in shell.hpo("promote", "small").stderr


def test_an_interrupt_stops_all_and_loses_nothing(shell: Shell) -> None:
    shell.hpo("study", "create", "small.toml")
    workers = shell.start("workers", "small", "--gpus", "cpu", "--per-device", "2", "--width", "1")
    wait_for(workers, "search: training")
    workers.send_signal(signal.SIGINT)
    said = workers.communicate(timeout=60)[0]
    assert workers.returncode == 130
    assert "Traceback" not in said
    states = search_of(shell)["states"]
    assert isinstance(states, dict)
    assert states["RUNNING"] == 0
    assert sum(states.values()) == 12
    shell.hpo("workers", "small", "--gpus", "cpu")
    assert_search_is_whole(shell)
