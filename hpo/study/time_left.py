"""How long a study still takes, and on what the estimate rests: pure functions of recent epochs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hpo.search.expected_epochs import NOTHING, EpochRange
from hpo.store.activity import RecentEpoch
from hpo.values.wording import counted, duration_text

PACE_EPOCHS = 100
"""Most epochs of a worker that its pace is measured on, the newest."""

TOGETHER_SECONDS = 0.01
"""Epochs of a worker that are recorded within this time are those of one pack."""

SPREAD = 0.3
"""A range whose ends differ by less than this share of the estimate is one number for people."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The epochs per second of one worker, measured on its last `epochs` epochs."""

    per_second: float
    epochs: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage still has to train: epochs, and the number of open trials.

    `longest`: the expected epochs of the trial that trains longest. One worker trains them one after another.
    """

    epochs: EpochRange = NOTHING
    trials: int = 0
    longest: float = 0.0


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """An estimate in seconds with its bounds. All are None if nothing is known; `basis` then says why."""

    seconds: float | None
    low: float | None
    high: float | None
    basis: str

    def capped(self, limit: float) -> "TimeLeft":
        """Return the estimate with no time above `limit` seconds."""
        times = (self.seconds, self.low, self.high)
        seconds, low, high = (None if time is None else min(time, limit) for time in times)
        return TimeLeft(seconds, low, high, self.basis)

    def describe(self) -> str:
        """Return the time for people, as in "about 4 min" and "4 to 9 min". "unknown" if it is not known."""
        if self.seconds is None or self.low is None or self.high is None:
            return "unknown"
        if self.high - self.low <= SPREAD * self.seconds:
            return f"about {duration_text(self.seconds)}"
        return range_text(self.low, self.high)


NONE_LEFT = TimeLeft(0.0, 0.0, 0.0, "nothing is left to train")


def range_text(low: float, high: float) -> str:
    """Return a range of seconds for people, as in "4 to 9 min" and "40 s to 2 min"."""
    first, last = duration_text(low), duration_text(high)
    if first == last:
        return f"about {last}"
    if low < 1:
        return f"at most {last}"
    if first.split()[1] == last.split()[1]:
        first = first.split()[0]
    return f"{first} to {last}"


def paces(epochs: Iterable[RecentEpoch]) -> dict[str, Pace]:
    """Return the pace of each worker. `epochs` are of one stage, oldest first.

    The clock of a worker runs from its first pack of epochs to its last one. It runs on while the worker is
    silent for longer than between two packs. With a single pack, the device seconds tell.
    """
    by_worker: dict[str, list[RecentEpoch]] = defaultdict(list)
    for epoch in epochs:
        by_worker[epoch.worker].append(epoch)
    measured = {worker: _pace(recent[-PACE_EPOCHS:]) for worker, recent in by_worker.items()}
    return {worker: pace for worker, pace in measured.items() if pace is not None}


def _pace(epochs: Sequence[RecentEpoch]) -> Pace | None:
    ages = [epoch.age for epoch in epochs]
    gaps = [before - after for before, after in pairwise(ages)]
    first = next((index for index, gap in enumerate(gaps, start=1) if gap > TOGETHER_SECONDS), len(ages))
    if first == len(ages):
        seconds = sum(epoch.seconds for epoch in epochs)
        # Silence counts here, too: the next epochs have to be at least as slow.
        seconds = max(seconds, ages[-1])
        return Pace(len(ages) / seconds, len(ages)) if seconds > 0 else None
    span = ages[0] - min(ages[-1], max(gaps))
    return Pace((len(ages) - first) / span, len(ages))


def estimate(work: Work, workers: Mapping[str, Pace | None], scale: float = 1.0) -> TimeLeft:
    """Return how long live workers need for the work.

    `workers`: the pace of each live worker, None for a worker that has not trained an epoch yet, which
    counts as an average one. `scale`: how much longer an epoch takes than those that were measured.
    """
    if not work.epochs.high:
        return NONE_LEFT
    if not workers:
        return TimeLeft(None, None, None, "no worker is running")
    known = [pace for pace in workers.values() if pace is not None]
    if not known:
        return TimeLeft(None, None, None, "no worker has finished an epoch yet")
    mean = sum(pace.per_second for pace in known) / len(known) / scale
    busy = min(len(workers), work.trials)

    def seconds(epochs: float) -> float:
        return max(epochs / (mean * busy), min(epochs, work.longest) / mean)

    count = sum(pace.epochs for pace in known)
    last = "the last epoch" if count == 1 else f"the last {count} epochs"
    basis = f"from {last} of {counted(len(known), 'worker')}"
    epochs = work.epochs
    return TimeLeft(seconds(epochs.expected), seconds(epochs.low), seconds(epochs.high), basis)


def together(first: TimeLeft, second: TimeLeft) -> TimeLeft:
    """Return the time of two stages, one after the other. Unknown if either is."""
    if first == NONE_LEFT:
        return second
    if second == NONE_LEFT:
        return first
    if first.seconds is None or first.low is None or first.high is None:
        return first
    if second.seconds is None or second.low is None or second.high is None:
        return second
    sums = first.seconds + second.seconds, first.low + second.low, first.high + second.high
    return TimeLeft(*sums, first.basis)
