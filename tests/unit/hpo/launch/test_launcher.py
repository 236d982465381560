"""The launcher with processes that only pretend to be workers."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import UnavailableError
from hpo.launch import launcher
from hpo.launch.launcher import Launcher
from hpo.launch.process import WorkerProcess
from hpo.launch.restarts import MOST_FAILURES
from hpo.launch.slot import Slot

WORKER = """
import json, os, signal, sys
from pathlib import Path

plan, words = Path(sys.argv[1]), sys.argv[2:]
if "--standby" in words:
    if (plan / "broken-standby").exists():
        sys.exit(3)
    print("ready", flush=True)
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    assignment = json.loads(line)
    os.environ.update(assignment["environment"])
    device = assignment["device"]
else:
    device = words[words.index("--device") + 1]

for step in sorted(plan.glob("step-*")):
    taken = plan / f"taken-{os.getpid()}"
    try:
        step.rename(taken)
    except FileNotFoundError:
        continue
    does = taken.read_text()
    break
else:
    sys.exit(0)

if does == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(f"{does} on {device} with {os.environ.get('PLACE')}, process {os.getpid()}", flush=True)
if does.startswith("exit"):
    sys.exit(int(does.split()[1]))
if does == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if does == "freeze":
    os.kill(os.getpid(), signal.SIGSTOP)
sys.stdin.read()
"""
"""Does the next step of the plan: `exit N`, `die`, or `serve`, `freeze` or `deaf` until it is ended."""

React = Callable[[str], None]


class Stage:
    """Where pretended workers play a plan. `lines`: all that was said; `settled`: the workers that ended."""

    def __init__(self, folder: Path) -> None:
        self.plan, self.script = folder / "plan", folder / "worker.py"
        self.plan.mkdir()
        self.script.write_text(WORKER)
        self.lines: list[str] = []
        self.settled: list[str] = []
        self.reactions: dict[str, list[React]] = {}
        self._lock = threading.Lock()

    def play(
        self,
        *steps: str,
        slots: Sequence[Slot] = (Slot("cpu", "a"),),
        settle: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        for number, step in enumerate(steps):
            (self.plan / f"step-{number:02d}").write_text(step)
        # Isolated and without site packages: it starts in a hundredth of a second.
        command = [sys.executable, "-I", "-S", str(self.script), str(self.plan)]
        Launcher(command, slots, settle or self.settle, self.write, clock).run()

    def settle(self, worker: str) -> bool:
        self.settled.append(worker)
        return any(self.plan.glob("step-*"))

    def on(self, words: str, *reactions: React) -> None:
        """The first line with these words is answered by the first reaction, and so on."""
        self.reactions.setdefault(words, []).extend(reactions)

    def write(self, line: str) -> None:
        with self._lock:
            self.lines.append(line)
            due = [todo.pop(0) for words, todo in self.reactions.items() if words in line and todo]
        for react in due:
            react(line)

    def said(self, words: str) -> list[str]:
        return [line for line in self.lines if words in line]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(launcher, "STANDBY_SECONDS", 0.0)
    return Stage(tmp_path)


def process_of(line: str) -> int:
    found = re.search(r"process (\d+)", line)
    assert found, line
    return int(found[1])


def kill(line: str) -> None:
    """Kills the worker that says this."""
    os.kill(process_of(line), signal.SIGKILL)


def nothing(_line: str) -> None:
    pass


def interrupt(_line: str) -> None:
    """What `kill` does to the launcher."""
    os.kill(os.getpid(), signal.SIGTERM)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_ends_when_all_workers_have_ended(stage: Stage) -> None:
    stage.play(slots=[Slot("cpu", "a"), Slot("cpu", "b")])
    assert sorted(worker[:4] for worker in stage.settled) == ["a/0-", "b/1-"]
    assert not stage.said("again")


def test_a_worker_that_fails_is_started_again_three_times(stage: Stage) -> None:
    stage.play(*["exit 1"] * (MOST_FAILURES + 1), "never")
    again = [line.rpartition("(")[2] for line in stage.said("ended with exit code 1")]
    assert again[:-1] == [f"{n} of 3)" for n in (1, 2, 3)]
    assert stage.lines[-1] == "[a/0] worker ended with exit code 1; it is not started again"
    assert len(set(stage.settled)) == MOST_FAILURES + 1
    assert not stage.said("never")


def test_a_long_life_begins_the_count_anew(stage: Stage) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 100.0  # between any two looks at it
        return now

    stage.play(*["exit 1"] * 6, clock=clock)
    ends = [line.partition("exit code 1; ")[2] for line in stage.said("ended with exit code")]
    assert [end[-8:] for end in ends[:-1]] == ["(1 of 3)"] * 5, stage.lines
    assert ends[-1] == "nothing is left to do"


def test_a_worker_that_is_killed_is_started_again_more_often(stage: Stage) -> None:
    stage.play(*["die"] * 6)
    assert len(stage.said("was killed by SIGKILL")) == 6
    assert stage.said("(5 of 20)")


def test_a_worker_that_others_stopped_gets_a_successor_while_trials_are_left(stage: Stage) -> None:
    stage.play("exit 0", "exit 0")
    assert len(stage.settled) == 2
    assert len(stage.said("ended early")) == 1


def test_a_mistake_of_the_user_ends_a_slot_and_no_other(stage: Stage) -> None:
    both = threading.Barrier(2)

    def stop(line: str) -> None:
        if both.wait(20) == 0:
            interrupt(line)

    stage.on("serve", stop)
    stage.on("[standby] ready", stop)
    with pytest.raises(KeyboardInterrupt):
        stage.play("exit 2", "serve", slots=[Slot("cpu", "a")] * 2, settle=lambda _worker: True)
    assert len(stage.said("ended with exit code 2; it is not started again")) == 1
    assert not stage.said("(1 of")


def test_the_standby_takes_the_place_of_a_worker_that_dies(stage: Stage) -> None:
    slots = [Slot("cuda:0", f"gpu{n}", {"PLACE": str(n), "OMP_NUM_THREADS": "1"}) for n in range(2)]
    both = threading.Barrier(2)  # a new standby is ready, and the old one serves

    def kill_second(_line: str) -> None:
        kill(next(line for line in stage.said("serve") if "with 1" in line))

    def stop(line: str) -> None:
        if both.wait(20) == 0:
            interrupt(line)

    stage.on("[standby] ready", kill_second, stop)
    stage.on("[gpu1/1] serve", nothing, stop)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", "serve", "serve", slots=slots)
    (taken,) = stage.said("takes its place")
    assert re.fullmatch(
        r"\[gpu1/1\] worker was killed by SIGKILL; standby-\w+ takes its place \(1 of 20\)", taken
    )
    first, second = stage.said("[gpu1/1] serve")
    assert "serve on cuda:0 with 1," in second
    assert process_of(first) != process_of(second)
    assert len(stage.said("[standby] ready")) == 2
    assert stage.settled[0].startswith("gpu1/1-")


def test_trials_are_free_before_a_successor_may_ask_for_them(stage: Stage) -> None:
    order: list[str] = []
    stage.on("[standby] ready", lambda _: kill(stage.said("serve")[0]))

    def served(line: str) -> None:
        order.append("served")
        interrupt(line)

    stage.on("serve", nothing, served)

    def settle(worker: str) -> bool:
        order.append("settled")
        return True

    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", "serve", settle=settle)
    assert order[:2] == ["settled", "served"]


def test_no_standby_starts_before_all_workers_have_said_something(stage: Stage) -> None:
    stage.on("[standby] ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", "serve", slots=[Slot("cpu", "a")] * 2)
    assert stage.lines.index("[standby] ready") > max(stage.lines.index(line) for line in stage.said("serve"))


def test_no_standby_starts_at_first(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "STANDBY_SECONDS", 20.0)
    now, looks, starts = 0.0, 0, dict[str, float]()

    class Timed(WorkerProcess):
        def __init__(self, worker: str, label: str, *rest: Any) -> None:
            starts[label] = now
            super().__init__(worker, label, *rest)

    def clock() -> float:
        nonlocal now, looks
        if stage.said("serve"):
            looks += 1
            now = 20.0 if looks > 4 else 19.9
        return now

    monkeypatch.setattr(launcher, "WorkerProcess", Timed)
    stage.on("[standby] ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", clock=clock)
    assert starts == {"a/0": 0.0, "standby": 20.0}


def test_a_standby_that_breaks_is_replaced_three_times(stage: Stage) -> None:
    (stage.plan / "broken-standby").touch()
    stage.on("[standby] ended with exit code 3; it is not started again", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve")
    assert len(stage.said("[standby] ended with exit code 3; starting it again")) == 3


def test_all_end_with_the_launcher(stage: Stage) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stage.on("[standby] ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", "serve", slots=[Slot("cpu", "a")] * 2)
    assert not any(alive(process_of(line)) for line in stage.said("serve"))
    assert len(stage.settled) == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_frozen_worker_hears_that_it_is_to_stop(stage: Stage) -> None:
    stage.on("freeze", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("freeze")
    assert not alive(process_of(stage.said("freeze")[0]))
    assert not stage.said("is killed")


def test_a_worker_that_does_not_stop_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.05)
    stage.on("deaf", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("deaf")
    assert not alive(process_of(stage.said("deaf")[0]))
    assert stage.said("is killed")
    assert len(stage.settled) == 1


def test_a_storage_that_does_not_answer_keeps_nobody_from_watching(stage: Stage) -> None:
    """The end of one worker cannot be settled before another one has been replaced."""
    answers = threading.Event()

    def settle(worker: str) -> bool:
        if worker.startswith("a/0"):
            assert answers.wait(20)
            return False
        return stage.settle(worker)

    def replaced(_line: str) -> None:
        answers.set()

    stage.on("[b/1] worker was killed", replaced)
    stage.play("die", "die", "exit 0", slots=[Slot("cpu", "a"), Slot("cpu", "b")], settle=settle)
    assert answers.is_set()


def test_an_end_is_settled_as_soon_as_the_storage_answers(stage: Stage) -> None:
    tries: list[str] = []

    def settle(worker: str) -> bool:
        tries.append(worker)
        if len(tries) < 3:
            raise UnavailableError("away")
        return stage.settle(worker)

    stage.play("die", "exit 0", settle=settle)
    assert len(set(tries[:3])) == 1
    assert len(stage.said("was killed")) == 1


def test_an_interrupt_does_not_wait_for_the_storage(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def settle(worker: str) -> bool:
        raise UnavailableError("away")

    stage.on("serve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", settle=settle)
    assert "are free when their leases end" in caplog.text
