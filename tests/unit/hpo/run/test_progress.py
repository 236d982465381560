import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from hpo.errors import StorageError, UnavailableError
from hpo.run.progress import StudyProgress
from hpo.study.status import Status
from hpo.values.objective import LOSS


def status(finished: int, paused: int = 0) -> Status:
    """Return a status with the fields that the progress shows."""
    search = SimpleNamespace(budget=12, finished=finished, paused=paused, best=None)
    full = SimpleNamespace(states={"WAITING": 0})
    return cast(Status, SimpleNamespace(objective=LOSS, search=search, full=full))


def reads(*answers: Status | Exception) -> Callable[[], Status]:
    """Return a function that returns or raises one answer after another."""
    remaining: Iterator[Status | Exception] = iter(answers)

    def read() -> Status:
        answer = next(remaining)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return read


AWAY = UnavailableError("postgresql://h/d: connection refused")


def test_each_change_of_the_status_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = StudyProgress(reads(status(1), status(1), status(2), status(2, 3)))
    for _ in range(4):
        progress.poll()
    assert capsys.readouterr().err.splitlines() == [
        "search: 1 of 12 trials finished",
        "search: 2 of 12 trials finished",
        "search: 2 of 12 trials finished, 3 paused",
    ]


@pytest.mark.parametrize("error", [AWAY, StorageError("h: permission denied")])
def test_outage_is_one_line_at_its_begin_and_one_at_its_end(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = StudyProgress(reads(status(1), error, error, error, status(1), error, status(2)))
    for _ in range(7):
        progress.poll()
    assert capsys.readouterr().err.splitlines() == [
        "search: 1 of 12 trials finished",
        f"waiting for the storage: {error}",
        "the storage answers again",
        f"waiting for the storage: {error}",
        "the storage answers again",
        "search: 2 of 12 trials finished",
    ]


def test_progress_polls_by_itself_and_once_more_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    polled, count = threading.Event(), 0

    def read() -> Status:
        nonlocal count
        count += 1
        if count == 5:
            polled.set()
        if count < 4:
            raise AWAY
        return status(12 if ended else 3)

    ended = False
    with StudyProgress(read, poll_seconds=0.0):
        assert polled.wait(20)
        ended = True
    assert capsys.readouterr().err.splitlines()[-1] == "search: 12 of 12 trials finished"


def test_final_read_waits_for_the_storage(capsys: pytest.CaptureFixture[str]) -> None:
    first = threading.Event()
    answers = reads(status(1), AWAY, status(12))

    def read() -> Status:
        first.set()
        return answers()

    with StudyProgress(read, poll_seconds=1000.0):
        assert first.wait(20)
    assert "search: 12 of 12 trials finished" in capsys.readouterr().err


def test_interrupt_does_not_wait_for_a_read() -> None:
    stuck, over = threading.Event(), threading.Event()

    def read() -> Status:
        stuck.set()
        over.wait()
        return status(1)

    def interrupted() -> None:
        with StudyProgress(read):
            assert stuck.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    over.set()
