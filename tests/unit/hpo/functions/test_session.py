"""Trials of training functions in processes of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.processes import until, until_gone

from hpo.functions.encoding import decode, decode_files
from hpo.functions.failures import FunctionFailure
from hpo.functions.session import FunctionFaults, FunctionTrainer
from hpo.functions.spares import FunctionProcesses
from hpo.functions.task import FunctionLimits, FunctionRuntime, FunctionTask
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult
from hpo.values.objective import Objective
from hpo.values.state import SessionState, StateError

SUPPORT = Path(__file__).parents[3] / "support"
LOSS = Objective("loss", "minimize", "loss")
SEARCH = FunctionTask("training_functions:fit", "search", 4, "last", LOSS, "cpu")
FULL = replace(SEARCH, stage="full", keep="best")


@pytest.fixture(scope="module", autouse=True)
def _in_support() -> Iterator[None]:
    """Functions are imported from the working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(SUPPORT)
        yield


@pytest.fixture(scope="module")
def processes(_in_support: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionProcesses]:
    """The processes of all tests. Each trial gets a fork of the spare, or the spare itself."""
    processes = FunctionProcesses(SEARCH.reference, tmp_path_factory.mktemp("functions"))
    yield processes
    processes.close()
    assert not processes.folder.exists()


class Run:
    """One trial."""

    def __init__(self, processes: FunctionProcesses, task: FunctionTask, params: dict[str, Any]) -> None:
        self.runtime = FunctionRuntime(limits=FunctionLimits(poll_seconds=0.01))
        self._processes, self.task, self._params = processes, task, params
        self.trainer = self._trainer()
        self.begin()

    def _trainer(self) -> FunctionTrainer:
        return FunctionTrainer(self.task, self._processes, self.runtime)

    def begin(self, state: SessionState | None = None) -> None:
        """Start the trial, or start it again from a state as another worker does."""
        self.trainer.close()
        self.trainer = self._trainer()
        states = {} if state is None else {7: state}
        self.session = self.trainer.start({7: Candidate(self._params, 5)}, states)

    def limit(self, **limits: Any) -> None:
        """Set limits."""
        self.runtime = replace(self.runtime, limits=replace(self.runtime.limits, **limits))
        self.begin()

    def epoch(self) -> EpochResult:
        (result,) = self.session.epoch()
        return result

    def rest(self) -> list[EpochResult]:
        """Train to the end."""
        results = []
        while self.session.members:
            results.append(self.epoch())
        return results

    def state(self) -> SessionState:
        """Return the state as another worker reads it."""
        state = self.session.states()[7]
        copy = SessionState(state.epochs, dict(state.arrays), dict(state.meta))
        self.session.check(copy)
        return copy

    def files(self) -> dict[str, bytes]:
        """Return the files of the kept epoch."""
        return {path: data.tobytes() for path, data in decode_files(self.session.weights(7)).items()}


@pytest.fixture
def run(processes: FunctionProcesses) -> Iterator[Any]:
    """Return a call that starts a trial: `run("walks", FULL, every=2)`."""
    runs: list[Run] = []

    def start(case: str, task: FunctionTask = SEARCH, **params: Any) -> Run:
        processes.code()  # the spare is ready, so it can be forked
        runs.append(Run(processes, task, {"case": case, **params}))
        return runs[-1]

    yield start
    for each in runs:
        each.trainer.close()


def values(results: list[EpochResult]) -> list[Any]:
    return [(result.epoch, dict(result.metrics), result.status, result.kept_epoch) for result in results]


def test_function_trains_its_budget(run: Any) -> None:
    results = run("walks").rest()
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    assert [result.status for result in results] == ["training"] * 3 + ["finished"]
    assert [result.metrics["lines"] for result in results] == [1, 2, 3, 4]
    assert [result.kept_epoch for result in results] == [1, 2, 3, 4]
    assert all(result.seconds > 0 for result in results)


@pytest.mark.parametrize("every", [1, 2])
def test_resumed_trial_is_equal(run: Any, every: int) -> None:
    """A trial that saves every other epoch trains the one after it again."""
    undisturbed = run("walks", FULL, every=every)
    expected = undisturbed.rest()
    disturbed = run("walks", FULL, every=every)
    results = [disturbed.epoch() for _ in range(3)]
    state = disturbed.state()
    assert state.epochs == 3 - 3 % every
    disturbed.begin(state)
    again = disturbed.rest()
    assert again[0].epoch == state.epochs + 1
    merged = {result.epoch: result for result in [*results, *again]}
    assert values(list(merged.values())) == values(expected)
    assert repr(decode(disturbed.session.weights(7))) == repr(decode(undisturbed.session.weights(7)))
    assert disturbed.files() == undisturbed.files()


def test_function_that_forgets_to_load_its_state_is_warned(run: Any, capfd: Any) -> None:
    trial = run("forgets")
    trial.epoch()
    trial.begin(trial.state())
    assert [result.epoch for result in trial.rest()] == [2, 3, 4]
    line = "warning: trial 7 goes on after epoch 1, and its function has not called trial.load()\n"
    assert capfd.readouterr().out.count(line) == 1


def test_killed_process_is_replaced(run: Any, tmp_path: Path) -> None:
    expected = run("walks").rest()
    killed = run("walks", every=2, once=str(tmp_path / "done"), at=4)
    assert {r.epoch: dict(r.metrics) for r in killed.rest()} == {r.epoch: dict(r.metrics) for r in expected}
    assert (tmp_path / "done").exists()


def test_killed_process_may_leave_no_directory(run: Any, tmp_path: Path) -> None:
    results = run("deletes_its_directory", once=str(tmp_path / "done"), at=3).rest()
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    assert (tmp_path / "done").exists()


def test_process_that_a_function_forks_commits_nothing(run: Any) -> None:
    assert [result.epoch for result in run("goes_on_in_a_fork").rest()] == [1, 2, 3, 4]


@pytest.mark.parametrize("count", [0, 2])
def test_epochs_that_are_not_the_next_fail_the_trial(run: Any, count: int) -> None:
    with pytest.raises(FunctionFailure, match=r"^its process committed epoch"):
        run("forges", epochs=[1, 1 + count]).rest()


@pytest.mark.parametrize(("case", "name"), [("dies", "SIGKILL"), ("is_interrupted", "SIGINT")])
def test_process_that_is_always_killed_fails_the_trial(run: Any, case: str, name: str) -> None:
    message = f"^its process was killed by {name} 3 times in a row, in epoch 1"
    with pytest.raises(FunctionFailure, match=message):
        run(case).epoch()


def test_full_training_keeps_the_best_epoch_that_was_saved(run: Any) -> None:
    every = run("bounces", replace(FULL, epochs=5), all=True)
    assert every.rest()[-1].kept_epoch == 2
    assert (decode(every.session.weights(7)), every.files()) == (np.array([2]), {"model.bin": b"\2"})
    resumed = run("bounces", replace(FULL, epochs=5), all=True)
    for _ in range(4):
        resumed.epoch()
    resumed.begin(resumed.state())
    assert resumed.rest()[-1].kept_epoch == 2
    assert (decode(resumed.session.weights(7)), resumed.files()) == (np.array([2]), {"model.bin": b"\2"})


def test_search_keeps_the_last_epoch(run: Any) -> None:
    last = run("bounces", all=True)
    assert [result.kept_epoch for result in last.rest()] == [1, 2, 3, 4]
    assert decode(last.session.weights(7)) == np.array([4])


def test_function_that_saves_nothing_cannot_resume(run: Any) -> None:
    alone = run("closes_output")
    alone.epoch()
    assert alone.session.states() == {}
    assert len(alone.rest()) == 3


@pytest.mark.parametrize(
    ("value", "metrics"),
    [(0.5, {"loss": 0.5}), ({"loss": 1, "accuracy": 0.25}, {"loss": 1.0, "accuracy": 0.25})],
)
def test_function_that_returns_is_one_epoch(run: Any, capfd: Any, value: object, metrics: object) -> None:
    returned = run("returns", FULL, value=value)
    assert values(returned.rest()) == [(1, metrics, "finished", 1)]
    assert returned.files() == {"model.txt": b"model"}
    assert decode(returned.session.weights(7)) is None
    assert "hello from the function" in capfd.readouterr().out


def test_function_may_end_before_its_budget(run: Any) -> None:
    """What it saves at its end belongs to its last epoch."""
    early = run("stops_early")
    assert [(r.epoch, r.status) for r in early.rest()] == [(1, "training"), (2, "training"), (2, "finished")]
    assert decode(early.session.weights(7)) == "the end"


def test_loss_that_is_not_finite_ends_the_trial(run: Any) -> None:
    results = run("diverges").rest()
    assert [(r.epoch, r.status, set(r.metrics)) for r in results] == [
        (1, "training", {"loss"}),
        (2, "diverged", {"loss"}),
    ]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("raises", r"^ValueError at training_functions.py:\d+: no luck$"),
        ("exhausts", r"^out of memory: MemoryError at training_functions.py:\d+$"),
        ("exits", r"^SystemExit at training_functions.py:\d+: 3$"),
        ("exits_at_once", r"^its process ended with exit code 3$"),
        ("crashes", r"^its process was ended by SIGSEGV at training_functions.py:\d+$"),
        (
            "saves_an_object",
            r"^StateTypeError at training_functions.py:\d+: state\['model'\]\[0\]: hpo.*Trial",
        ),
        ("yields_text", r"^str is neither a number nor a dict .*; yielded at training_functions.py:\d+$"),
        ("missing", r"^KeyError at training_functions.py:\d+: 'missing'$"),
    ],
)
def test_failure_says_what_and_where(run: Any, case: str, reason: str) -> None:
    trial = run(case)
    with pytest.raises(FunctionFailure, match=reason) as raised:
        trial.rest()
    assert "\n" not in str(raised.value)
    assert ("training_functions.py" in raised.value.trace) == (case != "exits_at_once")
    assert FunctionFaults().is_contained(raised.value)


def test_function_that_hangs_is_timed_out(run: Any, tmp_path: Path) -> None:
    trial = run("hangs", pids=str(tmp_path / "pid"))
    trial.limit(epoch_minutes=0.01)
    with pytest.raises(
        FunctionFailure, match=r"^timed out at training_functions.py:\d+: no epoch in 0.01 minutes"
    ):
        trial.epoch()
    until_gone([int((tmp_path / "pid").read_text())])


def test_memory_of_a_function_and_its_children_is_limited(run: Any) -> None:
    trial = run("grows")
    trial.limit(memory=100_000_000, memory_seconds=0.0)
    with pytest.raises(FunctionFailure, match=r"^out of memory at .*, and resources.memory is 95.4 MiB$"):
        trial.epoch()


class Interrupted(BaseException):
    """What a worker raises that has to stop."""


def _interrupt() -> Any:
    raise Interrupted


def test_stopped_worker_waits_for_the_next_epoch(run: Any) -> None:
    trial = run("walks")
    trial.runtime = replace(trial.runtime, interrupt=_interrupt)
    trial.begin()
    trial.epoch()
    trial.runtime.stop.set()
    assert trial.epoch().epoch == 2


def test_stopped_worker_gives_up_on_an_epoch(run: Any, tmp_path: Path) -> None:
    """The trial goes on elsewhere from its last committed epoch, with the files as they were then."""
    expected = run("walks").rest()
    trial = run("walks", once=str(tmp_path / "pid"), at=3, hangs=True)
    trial.runtime = replace(
        trial.runtime, interrupt=_interrupt, limits=replace(trial.runtime.limits, grace_seconds=0.0)
    )
    trial.begin()
    results = [trial.epoch(), trial.epoch()]

    def stop() -> None:
        until("the third epoch", lambda: (tmp_path / "pid").exists() or None)
        trial.runtime.stop.set()

    watcher = threading.Thread(target=stop)
    watcher.start()
    with pytest.raises(Interrupted):
        trial.epoch()
    watcher.join()
    state = trial.state()
    assert state.epochs == 2
    trial.runtime.stop.clear()
    trial.begin(state)
    assert values([*results, *trial.rest()]) == values(expected)


def test_processes_of_a_function_end_with_it(run: Any, tmp_path: Path) -> None:
    trial = run("has_children", pids=str(tmp_path / "pids"))
    trial.epoch()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    trial.session.drop([7])
    until_gone(pids)
    assert (tmp_path / "pids.closed").exists()  # a function that is dropped closes what it has open
    assert trial.session.members == []


def test_forked_processes_cannot_speak_for_the_function(run: Any) -> None:
    assert [result.metrics["loss"] for result in run("forks").rest()] == [1.0, 4.0, 4.0, 4.0]


def test_sigterm_ends_what_a_function_starts_and_not_the_function(run: Any) -> None:
    results = run("terminates").rest()
    assert [(r.metrics["loss"], r.metrics["started"]) for r in results] == [(-15.0, -15.0)] * 4


def test_states_of_other_sessions_are_refused(run: Any) -> None:
    trial = run("walks")
    trial.epoch()
    state = trial.state()
    for arrays, meta in (({}, state.meta), (state.arrays, {}), ({"row": np.zeros(1)}, {"progress": {}})):
        with pytest.raises(StateError):
            trial.session.check(SessionState(1, arrays, meta))


def test_spare_that_has_died_is_discarded(run: Any, processes: FunctionProcesses) -> None:
    run("returns", value=1.0).rest()
    spare = processes._spare
    assert spare is not None
    spare.kill()
    assert run("returns", value=2.0).rest()[0].metrics == {"loss": 2.0}


def test_module_that_cannot_be_imported_fails_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("import sys\n\nsys.exit(2)\n")
    monkeypatch.chdir(tmp_path)
    processes = FunctionProcesses("broken:fit", tmp_path)
    trial = Run(processes, replace(SEARCH, reference="broken:fit"), {})
    with pytest.raises(
        FunctionFailure, match=r"^broken:fit: importing broken raised SystemExit at broken.py:3: 2$"
    ):
        trial.epoch()
    trial.trainer.close()
    processes.close()
