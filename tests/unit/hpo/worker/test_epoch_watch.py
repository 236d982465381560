"""Since when a worker has shown no epoch, by a clock that the test sets."""

from __future__ import annotations

import pytest

from hpo.worker.epoch_watch import EpochWatch, QuietLimits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Beats:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def begin(self) -> None:
        self.seen.append("begin")

    def end(self) -> None:
        self.seen.append("end")


def test_silence_counts_from_the_begin_of_the_pack_and_from_each_epoch() -> None:
    clock = Clock()
    watch = EpochWatch(clock)
    assert watch.quiet_seconds is None
    watch.begin_pack("search", [3])
    clock.now = 5
    assert watch.quiet_seconds == 5
    watch.note_epoch()
    clock.now = 7
    assert watch.quiet_seconds == 2
    watch.end_pack()
    assert watch.quiet_seconds is None
    watch.log_if_quiet()


def test_log_says_so_at_growing_intervals(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    watch = EpochWatch(clock, QuietLimits(seconds=300, epochs=10, growth=2))
    watch.begin_pack("search", [3, 4])
    for minute in range(42):
        clock.now = 60 * minute
        watch.log_if_quiet()
    words = "search: trials 3, 4: no epoch for "
    assert [m.removeprefix(words).split(" minutes; limits")[0] for m in caplog.messages] == [
        "5",
        "10",
        "20",
        "40",
    ]


@pytest.mark.parametrize(("epoch", "first"), [(6.0, 300.0), (60.0, 600.0)])
def test_long_epochs_are_no_silence(caplog: pytest.LogCaptureFixture, epoch: float, first: float) -> None:
    clock = Clock()
    watch = EpochWatch(clock)
    watch.begin_pack("full", [0])
    for _ in range(3):
        clock.now += epoch
        watch.note_epoch()
    clock.now += first - 1
    watch.log_if_quiet()
    assert caplog.messages == []
    clock.now += 1
    watch.log_if_quiet()
    assert f"; an epoch took {epoch:g} s so far; limits.epoch_minutes" in caplog.messages[0]


def test_heartbeat_covers_training_also_when_it_raises() -> None:
    beats = Beats()
    watch = EpochWatch(heartbeat=beats)
    with watch.training():
        assert beats.seen == ["begin"]
    with pytest.raises(ZeroDivisionError), watch.training():
        raise ZeroDivisionError
    assert beats.seen == ["begin", "end"] * 2
