"""The pipe of a watchdog: when a worker counts as hanging, and when as ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from hpo.run.watchdog import BEGIN, END, Heartbeats

PARENT = os.getppid()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)


class Clock:
    """A clock that moves by a second with each reading."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_epoch_that_takes_too_long_is_seen(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.write(write, BEGIN)
    assert Heartbeats(read, PARENT, Clock(), 0.001).wait(20)
    os.close(write)


@pytest.mark.parametrize("beats", [b"", BEGIN + END, END, BEGIN + END + BEGIN + END])
def test_worker_that_does_not_train_may_take_any_time(pipe: tuple[int, int], beats: bytes) -> None:
    read, write = pipe
    os.write(write, beats)
    heartbeats = Heartbeats(read, PARENT, Clock(), 0.001)
    threading.Timer(0.1, os.close, [write]).start()  # the worker ends after many readings of the clock
    assert not heartbeats.wait(2)


def test_each_epoch_has_the_whole_time(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.write(write, BEGIN)
    heartbeats = Heartbeats(read, PARENT, Clock(), 0.001)
    assert not heartbeats.has_ended(10)
    os.write(write, END + BEGIN)
    assert not heartbeats.has_ended(3)
    assert heartbeats.wait(50)
    assert heartbeats.clock() > 50
    os.close(write)


def test_worker_that_has_ended_is_noticed_by_its_pipe_or_its_children(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.write(write, BEGIN)
    assert not Heartbeats(read, PARENT + 1, Clock(), 0.001).wait(20)  # others hold the pipe open
    os.close(write)
    assert Heartbeats(read, PARENT, Clock(), 0.001).has_ended(20)
