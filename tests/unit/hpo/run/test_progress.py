import threading
from collections.abc import Callable, Iterator

import pytest
from support.live import finished, live_of, stage_status

from hpo.errors import StorageError, UnavailableError
from hpo.run.progress import REST, StudyProgress
from hpo.study.live import LiveStatus


def status(finished: int, paused: int = 0) -> LiveStatus:
    """Return the status of a search of 12 trials."""
    return live_of(stage_status(12, COMPLETE=finished, WAITING=12 - finished, paused=paused))


def reads(*answers: LiveStatus | Exception) -> Callable[[], LiveStatus]:
    """Return a function that returns or raises one answer after another."""
    remaining: Iterator[LiveStatus | Exception] = iter(answers)

    def read() -> LiveStatus:
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

    def read() -> LiveStatus:
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

    def read() -> LiveStatus:
        first.set()
        return answers()

    with StudyProgress(read, poll_seconds=1000.0):
        assert first.wait(20)
    assert "search: 12 of 12 trials finished" in capsys.readouterr().err


def test_interrupt_does_not_wait_for_a_read() -> None:
    stuck, over = threading.Event(), threading.Event()

    def read() -> LiveStatus:
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


def test_wait_ends_once_no_worker_has_anything_to_do() -> None:
    answers = reads(status(1), AWAY, status(2), finished(), finished())
    with StudyProgress(answers, poll_seconds=0.0) as progress:
        progress.wait()


def test_large_study_is_read_rarely() -> None:
    # Each read takes a second by this clock, so that the next comes after many.
    ticks, rests = iter(range(100)), list[float]()
    progress = StudyProgress(reads(status(1), status(1)), clock=lambda: float(next(ticks)))
    progress.step(rests.append)
    assert rests == [REST]
