import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from hpo.cli import progress as module
from hpo.cli.progress import StudyProgress
from hpo.errors import StorageError, UnavailableError
from hpo.study.status import Status


def status(finished: int, paused: int = 0) -> Status:
    """What the progress shows of a status."""
    search = SimpleNamespace(budget=12, finished=finished, paused=paused, best=None)
    full = SimpleNamespace(states={"WAITING": 0})
    return cast(Status, SimpleNamespace(search=search, full=full))


def looks(*answers: Status | Exception) -> Callable[[], Status]:
    """Gives or raises one answer after another."""
    left: Iterator[Status | Exception] = iter(answers)

    def look() -> Status:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


AWAY = UnavailableError("postgresql://h/d: connection refused")


def test_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    progress = StudyProgress(looks(status(1), status(1), status(2), status(2, 3)))
    for _ in range(4):
        progress.look()
    assert capsys.readouterr().err.splitlines() == [
        "search: 1 of 12 trials finished",
        "search: 2 of 12 trials finished",
        "search: 2 of 12 trials finished, 3 paused",
    ]


@pytest.mark.parametrize("error", [AWAY, StorageError("h: permission denied")])
def test_an_outage_is_two_lines(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    progress = StudyProgress(looks(status(1), error, error, error, status(1), error, status(2)))
    for _ in range(7):
        progress.look()
    assert capsys.readouterr().err.splitlines() == [
        "search: 1 of 12 trials finished",
        f"waiting for the storage: {error}",
        "the storage answers again",
        f"waiting for the storage: {error}",
        "the storage answers again",
        "search: 2 of 12 trials finished",
    ]


def test_it_looks_by_itself_and_once_more_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    looked, seen = threading.Event(), 0

    def look() -> Status:
        nonlocal seen
        seen += 1
        if seen == 5:
            looked.set()
        if seen < 4:
            raise AWAY
        return status(12 if ended else 3)

    ended = False
    with StudyProgress(look):
        assert looked.wait(20)
        ended = True
    assert capsys.readouterr().err.splitlines()[-1] == "search: 12 of 12 trials finished"


def test_the_last_look_waits_for_the_storage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 1000.0)
    first = threading.Event()
    answers = looks(status(1), AWAY, status(12))

    def look() -> Status:
        first.set()
        return answers()

    with StudyProgress(look):
        assert first.wait(20)
    assert "search: 12 of 12 trials finished" in capsys.readouterr().err


def test_an_interrupt_does_not_wait_for_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, over = threading.Event(), threading.Event()

    def look() -> Status:
        stuck.set()
        over.wait()
        return status(1)

    def interrupted() -> None:
        with StudyProgress(look):
            assert stuck.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    over.set()
