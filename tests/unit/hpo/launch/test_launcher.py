"""The launcher with scripted processes in place of workers."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hpo.errors import UnavailableError
from hpo.launch.executors.base import WorkerCommand
from hpo.launch.executors.local import LocalExecutor
from hpo.launch.launcher import Launcher
from hpo.launch.output import Output
from hpo.launch.restarts import MAX_FAILURES
from hpo.launch.slot import Slot
from hpo.launch.timing import Timing

WORKER = """
import json, os, signal, sys
from pathlib import Path

plan, words = Path(sys.argv[1]), sys.argv[2:]
if "--standby" in words:
    if (plan / "broken-standby").exists():
        sys.exit(1)
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
"""Do the next step of the plan: `exit N`, `die`, or `serve`, `freeze` or `deaf` until the end."""

TIMING = Timing(clock=lambda: 0.0, standby_seconds=0.0)

React = Callable[[str], None]


class Stage:
    """Run a launcher whose workers follow a plan.

    `lines` has the output, `reclaimed` the workers whose trials were reclaimed.
    """

    def __init__(self, folder: Path) -> None:
        self.plan, self.script = folder / "plan", folder / "worker.py"
        self.plan.mkdir()
        self.script.write_text(WORKER)
        self.lines: list[str] = []
        self.reclaimed: list[str] = []
        self.reactions: dict[str, list[React]] = {}
        self._lock = threading.Lock()

    def play(
        self,
        *steps: str,
        slots: Sequence[Slot] = (Slot("cpu", "a"),),
        reclaim: Callable[[str], bool] | None = None,
        timing: Timing = TIMING,
    ) -> None:
        for number, step in enumerate(steps):
            (self.plan / f"step-{number:02d}").write_text(step)
        # Isolated and without site packages, so that it starts in a hundredth of a second.
        executor = LocalExecutor(slots, program=[sys.executable, "-I", "-S", str(self.script)])
        command = WorkerCommand([str(self.plan)])
        self.launcher = Launcher(
            executor, command, reclaim or self.reclaim, Output(self.write, self.write), timing
        )
        self.launcher.run()

    def reclaim(self, worker: str) -> bool:
        self.reclaimed.append(worker)
        return any(self.plan.glob("step-*"))

    def on(self, words: str, *reactions: React) -> None:
        """Call the first reaction at the first line with these words, the second at the second, and so on."""
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
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def process_of(line: str) -> int:
    match = re.search(r"process (\d+)", line)
    assert match, line
    return int(match[1])


def kill(line: str) -> None:
    """Kill the worker that wrote the line."""
    os.kill(process_of(line), signal.SIGKILL)


def nothing(_line: str) -> None:
    pass


def interrupt(_line: str) -> None:
    """Interrupt the launcher as `kill` does."""
    os.kill(os.getpid(), signal.SIGTERM)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_launcher_ends_when_all_workers_have_ended(stage: Stage) -> None:
    stage.play(slots=[Slot("cpu", "a"), Slot("cpu", "b")])
    assert sorted(worker[:4] for worker in stage.reclaimed) == ["a/0-", "b/1-"]
    assert not stage.said("again")


def test_failed_worker_is_restarted_three_times(stage: Stage) -> None:
    stage.play(*["exit 1"] * (MAX_FAILURES + 1), "never")
    again = [line.rpartition("(")[2] for line in stage.said("ended with exit code 1")]
    assert again[:-1] == [f"{n} of 3)" for n in (1, 2, 3)]
    assert stage.lines[-1] == "[a/0] worker ended with exit code 1; it is not started again"
    assert len(set(stage.reclaimed)) == MAX_FAILURES + 1
    assert not stage.said("never")


def test_long_life_resets_the_restart_count(stage: Stage) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 100.0  # between two readings
        return now

    stage.play(*["exit 1"] * 6, timing=replace(TIMING, clock=clock))
    ends = [line.partition("exit code 1; ")[2] for line in stage.said("ended with exit code")]
    assert [end[-8:] for end in ends[:-1]] == ["(1 of 3)"] * 5, stage.lines
    assert ends[-1] == "nothing is left to do"


def test_killed_worker_is_restarted_more_often(stage: Stage) -> None:
    stage.play(*["die"] * 6)
    assert len(stage.said("was killed by SIGKILL")) == 6
    assert stage.said("(5 of 20)")


def test_worker_that_ended_early_is_restarted_while_trials_are_open(stage: Stage) -> None:
    stage.play("exit 0", "exit 0")
    assert len(stage.reclaimed) == 2
    assert len(stage.said("ended early")) == 1


def test_user_mistake_empties_one_slot_and_no_other(stage: Stage) -> None:
    both = threading.Barrier(2)

    def stop(line: str) -> None:
        if both.wait(20) == 0:
            interrupt(line)

    stage.on("serve", stop)
    stage.on("[standby] ready", stop)
    with pytest.raises(KeyboardInterrupt):
        stage.play("exit 2", "serve", slots=[Slot("cpu", "a")] * 2, reclaim=lambda _worker: True)
    assert len(stage.said("ended with exit code 2; it is not started again")) == 1
    assert not stage.said("(1 of")


def test_standby_replaces_a_killed_worker(stage: Stage) -> None:
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
    assert stage.reclaimed[0].startswith("gpu1/1-")


def test_trials_are_reclaimed_before_the_successor_starts(stage: Stage) -> None:
    order: list[str] = []
    stage.on("[standby] ready", lambda _: kill(stage.said("serve")[0]))

    def served(line: str) -> None:
        order.append("served")
        interrupt(line)

    stage.on("serve", nothing, served)

    def reclaim(worker: str) -> bool:
        order.append("reclaimed")
        return True

    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", "serve", reclaim=reclaim)
    assert order[:2] == ["reclaimed", "served"]


def test_standby_starts_after_all_workers_have_output(stage: Stage) -> None:
    stage.on("[standby] ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", "serve", slots=[Slot("cpu", "a")] * 2)
    assert stage.lines.index("[standby] ready") > max(stage.lines.index(line) for line in stage.said("serve"))


def test_standby_starts_after_standby_seconds(stage: Stage) -> None:
    now, looks = 0.0, 0

    def clock() -> float:
        nonlocal now, looks
        if stage.said("serve"):
            looks += 1
            now = 20.0 if looks > 4 else 19.9
        return now

    stage.on("[standby] ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", timing=Timing(clock=clock, standby_seconds=20.0))
    starts = {worker.label: worker.started_at for worker in stage.launcher.workers}
    assert starts == {"a/0": 0.0, "standby": 20.0}


def test_failed_standby_is_restarted_three_times(stage: Stage) -> None:
    (stage.plan / "broken-standby").touch()
    stage.on("[standby] ended with exit code 1; it is not started again", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve")
    assert len(stage.said("[standby] ended with exit code 1; starting it again")) == 3


def test_interrupt_ends_all_processes(stage: Stage) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stage.on("[standby] ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", "serve", slots=[Slot("cpu", "a")] * 2)
    assert not any(alive(process_of(line)) for line in stage.said("serve"))
    assert len(stage.reclaimed) == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_frozen_worker_is_stopped_without_a_kill(stage: Stage) -> None:
    stage.on("freeze", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("freeze")
    assert not alive(process_of(stage.said("freeze")[0]))
    assert not stage.said("is killed")


def test_worker_that_ignores_sigterm_is_killed(stage: Stage) -> None:
    stage.on("deaf", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("deaf", timing=replace(TIMING, grace_seconds=0.05))
    assert not alive(process_of(stage.said("deaf")[0]))
    assert stage.said("is killed")
    assert len(stage.reclaimed) == 1


def test_silent_storage_does_not_keep_the_launcher_from_watching(stage: Stage) -> None:
    """The trials of one worker cannot be reclaimed before another worker is replaced."""
    answers = threading.Event()

    def reclaim(worker: str) -> bool:
        if worker.startswith("a/0"):
            assert answers.wait(20)
            return False
        return stage.reclaim(worker)

    def replaced(_line: str) -> None:
        answers.set()

    stage.on("[b/1] worker was killed", replaced)
    stage.play("die", "die", "exit 0", slots=[Slot("cpu", "a"), Slot("cpu", "b")], reclaim=reclaim)
    assert answers.is_set()


def test_trials_are_reclaimed_once_the_storage_answers(stage: Stage) -> None:
    tries: list[str] = []

    def reclaim(worker: str) -> bool:
        tries.append(worker)
        if len(tries) < 3:
            raise UnavailableError("away")
        return stage.reclaim(worker)

    stage.play("die", "exit 0", reclaim=reclaim)
    assert len(set(tries[:3])) == 1
    assert len(stage.said("was killed")) == 1


def test_interrupt_does_not_wait_for_the_storage(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def reclaim(worker: str) -> bool:
        raise UnavailableError("away")

    stage.on("serve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.play("serve", reclaim=reclaim)
    assert "are free when their leases end" in caplog.text
