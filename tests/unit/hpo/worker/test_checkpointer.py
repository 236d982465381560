"""When checkpoints are written, and what happens when they cannot be."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.artifacts import MemoryStore, away
from support.states import check, state

from hpo.errors import AwayError
from hpo.store.checkpoints import Checkpoint
from hpo.store.leases import Lease
from hpo.study.schedule import LeasedTrial
from hpo.values.state import SessionState
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


class Disk(MemoryStore):
    """A store whose writes take time, and fail for the trials in `full`. `asked` has all their trials."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.seconds = clock, 0.5
        self.full: set[int] = set()
        self.asked: list[int] = []

    def _put(self, name: str, data: bytes) -> None:
        self.clock.now += self.seconds
        match = re.search(r"(?:search|trial)-(\d{4})-", name)
        assert match, name
        self.asked.append(int(match[1]))
        if self.asked[-1] in self.full:
            raise AwayError("disk: No space left on device")
        super()._put(name, data)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def disk(clock: Clock) -> Disk:
    return Disk(clock)


@pytest.fixture
def checkpointer(disk: Disk, clock: Clock) -> Checkpointer:
    return Checkpointer(TrialFiles(disk), "search", clock, LIMITS)


def file(number: int, epochs: int) -> str:
    return f"search-{number:04d}-1-{epochs:04d}.safetensors"


def states(**epochs: int) -> Callable[[], dict[int, SessionState]]:
    """Return a call that returns states: `states(_1=3)` has trial 1 after 3 epochs."""
    return lambda: {int(name[1:]): state(count) for name, count in epochs.items()}


def test_save_returns_the_checkpoints_by_number(checkpointer: Checkpointer) -> None:
    assert checkpointer.save(TRIALS, states(_0=3, _2=5), {}) == {
        0: Checkpoint(3, file(0, 3)),
        2: Checkpoint(5, file(2, 5)),
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
    assert checkpointer.save(TRIALS, states(_0=3, _1=3, _2=3), {}) == {0: Checkpoint(3, file(0, 3))}
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
        "not saved: the checkpoint of trial 1 (disk: No space left on device); "
        "training goes on, and it is tried again",
        "saved again: the checkpoint of trial 1",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    disk.full = {3}
    checkpointer.save(TRIALS, states(_3=1), {})
    assert len(caplog.messages) == 3  # another failure is news


def test_lasting_failure_is_logged_each_minute(
    checkpointer: Checkpointer, clock: Clock, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.full = {0}
    for second in range(180):
        clock.now = float(second)
        assert checkpointer.save_weights(TRIALS[0], {}) is None
    assert len(caplog.messages) == 3


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
    assert checkpointer.save_weights(TRIALS[0], {}) == "trial-0000-1.safetensors"
    assert [message.split(" (")[0] for message in caplog.messages] == [
        "not saved: the weights of trial 0",
        "saved again: the weights of trial 0",
    ]


def test_error_other_than_that_of_the_store_is_raised(checkpointer: Checkpointer, disk: Disk) -> None:
    def fail(_operation: str, _name: str) -> None:
        raise ZeroDivisionError

    disk.before = fail
    with pytest.raises(ZeroDivisionError):
        checkpointer.save(TRIALS, states(_0=1), {})


# Loading


def saved_trials(checkpointer: Checkpointer) -> list[LeasedTrial]:
    """Return trials 0 and 1 with a checkpoint of each."""
    saved = checkpointer.save(TRIALS, lambda: {n: state(n + 1) for n in (0, 1)}, {})
    return [replace(TRIALS[number], checkpoint=checkpoint) for number, checkpoint in saved.items()]


def test_damaged_checkpoint_is_set_aside(
    checkpointer: Checkpointer, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    trials = saved_trials(checkpointer)
    damaged = f"checkpoints/{file(0, 1)}"
    disk.files[damaged] = b"damaged"
    assert checkpointer.load(trials, check).keys() == {1}
    assert disk.files.keys() == {f"{damaged}.damaged", f"checkpoints/{file(1, 2)}"}
    (message,) = caplog.messages
    assert message.startswith(f"trial 0 starts over, its checkpoint does not load: {damaged}: ")


def test_checkpoint_that_cannot_be_read_is_left_alone(
    checkpointer: Checkpointer, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    trials, files = saved_trials(checkpointer), dict(disk.files)
    disk.before = lambda _operation, name: away() if name.endswith(file(0, 1)) else None
    assert checkpointer.load(trials, check).keys() == {1}
    disk.before = lambda _operation, _name: None
    assert disk.files == files
    (message,) = caplog.messages
    assert message.startswith("trial 0 starts over, its checkpoint does not load: the store: No space left")
    assert checkpointer.load(trials, check).keys() == {0, 1}


def test_checkpoint_whose_name_leaves_the_store_is_not_read(
    checkpointer: Checkpointer, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    trial = replace(TRIALS[0], checkpoint=Checkpoint(3, "../../secret"))
    assert checkpointer.load([trial], check) == {}
    assert "artifact name 'checkpoints/../../secret': must be " in caplog.text
