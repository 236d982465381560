"""When checkpoints are written, and what happens when they cannot be."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpo.artifacts.folder import ArtifactFolder
from hpo.store.checkpoints import Checkpoint
from hpo.store.leases import Lease
from hpo.study.schedule import LeasedTrial
from hpo.training.member import MemberState, Progress
from hpo.training.weights import Weights
from hpo.values.stage import Stage
from hpo.worker.checkpointer import Checkpointer
from hpo.worker.runtime import CheckpointLimits
from hpo.worker.trial_files import TrialFiles

LIMITS = CheckpointLimits()

TRIALS = {n: LeasedTrial(n, Lease(100 + n, 1), {"lr": 0.1, "batch_size": 16}, n) for n in range(4)}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Disk:
    """A disk in place of the files: writes take time, and fail for the trials in `full`."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds = clock, 0.5
        self.full: set[int] = set()
        self.asked: list[int] = []

    def save_checkpoint(self, _stage: Stage, trial: LeasedTrial, state: MemberState) -> str:
        return self._write(trial, f"{trial.number} after {state.progress.epochs}")

    def save_weights(self, trial: LeasedTrial, _weights: Mapping[str, Tensor]) -> str:
        return self._write(trial, f"weights of {trial.number}")

    def _write(self, trial: LeasedTrial, name: str) -> str:
        self.clock.now += self.seconds
        self.asked.append(trial.number)
        if trial.number in self.full:
            raise OSError(28, "No space left on device")
        return name


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def disk(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(clock)
    monkeypatch.setattr(
        TrialFiles, "save_checkpoint", lambda _self, *arguments: made.save_checkpoint(*arguments)
    )
    monkeypatch.setattr(TrialFiles, "save_weights", lambda _self, *arguments: made.save_weights(*arguments))
    return made


@pytest.fixture
def checkpointer(disk: Disk, clock: Clock, tmp_path: Path) -> Checkpointer:
    return Checkpointer(TrialFiles(ArtifactFolder(tmp_path)), "search", clock, LIMITS)


def states(**epochs: int) -> Callable[[], dict[int, MemberState]]:
    """Return a call that returns states: `states(_1=3)` has trial 1 after 3 epochs."""
    empty = Weights(torch.zeros(1, 1), {})
    return lambda: {int(n[1:]): MemberState(Progress(epochs=e), empty, None, None) for n, e in epochs.items()}


def test_save_returns_the_checkpoints_by_number(checkpointer: Checkpointer) -> None:
    assert checkpointer.save(TRIALS, states(_0=3, _2=5), {}) == {
        0: Checkpoint(3, "0 after 3"),
        2: Checkpoint(5, "2 after 5"),
    }


def test_only_trials_with_new_epochs_are_written(checkpointer: Checkpointer, disk: Disk) -> None:
    saved = checkpointer.save(TRIALS, states(_0=3, _1=3, _2=3, _3=0), {0: 3, 1: 2})
    assert saved.keys() == {1, 2}
    assert disk.asked == [1, 2]  # one that has not trained an epoch has nothing to lose


def test_checkpoints_keep_within_their_share_of_the_time(
    checkpointer: Checkpointer, clock: Clock, disk: Disk
) -> None:
    assert checkpointer.is_due
    start, spent = clock.now, 0.0
    for epoch in range(1, 2001):
        disk.seconds = 0.1 + epoch % 3
        clock.now += 3.0  # the epoch
        if checkpointer.is_due:
            before = clock.now
            assert len(checkpointer.save(TRIALS, states(_0=epoch, _1=epoch), {})) == 2
            spent += clock.now - before
    assert LIMITS.max_share / 2 < spent / (clock.now - start) <= LIMITS.max_share * 1.05


def test_quick_checkpoints_are_due_after_each_epoch(
    checkpointer: Checkpointer, clock: Clock, disk: Disk
) -> None:
    disk.seconds = 0.01
    for epoch in range(1, 10):
        assert checkpointer.is_due
        checkpointer.save(TRIALS, states(_0=epoch), {})
        assert not checkpointer.is_due
        clock.now += 0.01 / LIMITS.max_share


def test_save_without_new_epochs_delays_nothing(checkpointer: Checkpointer) -> None:
    assert checkpointer.save(TRIALS, states(_0=3), {0: 3}) == {}
    assert checkpointer.is_due


def test_first_failure_and_its_end_are_logged(
    checkpointer: Checkpointer, clock: Clock, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.full = {1, 2}
    assert checkpointer.save(TRIALS, states(_0=3, _1=3, _2=3), {}) == {0: Checkpoint(3, "0 after 3")}
    assert disk.asked == [0, 1]  # what follows would fail, too
    for epoch in range(4, 10):
        assert not checkpointer.is_due
        clock.now += LIMITS.retry_seconds
        assert checkpointer.is_due
        assert checkpointer.save(TRIALS, states(_1=epoch), {}) == {}
    clock.now += LIMITS.retry_seconds
    disk.full = set()
    assert checkpointer.save(TRIALS, states(_1=10, _2=10), {}).keys() == {1, 2}
    assert caplog.messages == [
        "not saved: the checkpoint of trial 1 ([Errno 28] No space left on device); "
        "training goes on, and it is tried again",
        "saved again: the checkpoint of trial 1",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    disk.full = {3}
    checkpointer.save(TRIALS, states(_3=1), {})
    assert len(caplog.messages) == 3  # another failure is news


def test_failed_save_is_due_again_after_retry_seconds(
    checkpointer: Checkpointer, clock: Clock, disk: Disk
) -> None:
    disk.full, disk.seconds = {0}, 60.0
    checkpointer.save(TRIALS, states(_0=3), {})
    assert not checkpointer.is_due
    clock.now += LIMITS.retry_seconds
    assert checkpointer.is_due


def test_no_file_is_begun_after_the_given_seconds(
    checkpointer: Checkpointer, clock: Clock, disk: Disk
) -> None:
    disk.seconds = 2.0
    saved = checkpointer.save(TRIALS, states(_0=1, _1=1, _2=1, _3=1), {}, seconds=5.0)
    assert saved.keys() == {0, 1, 2}
    assert checkpointer.save(TRIALS, states(_0=1, _1=1, _2=1, _3=1), {}, seconds=math.inf).keys() == {*TRIALS}


def test_save_weights_returns_none_if_it_fails(
    checkpointer: Checkpointer, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.full = {0}
    assert checkpointer.save_weights(TRIALS[0], {}) is None
    assert checkpointer.save_weights(TRIALS[0], {}) is None
    assert not checkpointer.is_due  # the same disk
    disk.full = set()
    assert checkpointer.save_weights(TRIALS[0], {}) == "weights of 0"
    assert [message.split(" (")[0] for message in caplog.messages] == [
        "not saved: the weights of trial 0",
        "saved again: the weights of trial 0",
    ]


def test_error_other_than_oserror_is_raised(
    checkpointer: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(TrialFiles, "save_checkpoint", fail)
    with pytest.raises(ZeroDivisionError):
        checkpointer.save(TRIALS, states(_0=1), {})
