"""Since when a worker has shown no epoch, and whether it is in the code of a network."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from hpo.values.stage import Stage

log = logging.getLogger("hpo.worker")

REMEMBERED = 100
"""Epochs whose median is the length of an epoch."""


class Heartbeat(Protocol):
    """Tells a watchdog in another process when the code of a network runs."""

    def begin(self) -> None:
        """Training begins. From now on, the watchdog counts."""

    def end(self) -> None:
        """Training has ended."""


class NoHeartbeat:
    """No watchdog."""

    def begin(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


NO_HEARTBEAT = NoHeartbeat()


@dataclass(frozen=True, slots=True)
class QuietLimits:
    """When a worker without an epoch is worth a line in the log."""

    seconds: float = 300.0
    """The first line comes after this time, or later for longer epochs."""

    epochs: float = 10.0
    """The first line comes after this many times the median of the epochs so far."""

    growth: float = 2.0
    """The factor from the time of one line to that of the next."""


class EpochWatch:
    """The time since the last epoch of a worker's pack. Any thread may read it.

    It has a clock of its own, because each reading of the runtime's clock counts in tests of device seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        limits: QuietLimits = QuietLimits(),
        heartbeat: Heartbeat = NO_HEARTBEAT,
    ) -> None:
        self._clock, self._limits, self._heartbeat = clock, limits, heartbeat
        self._quiet_since: float | None = None
        self._title, self._next_line = "", 0.0
        self._lengths: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def quiet_seconds(self) -> float | None:
        """The time since the last epoch, or since the pack began. None without a pack."""
        since = self._quiet_since  # once: the training thread sets it
        return None if since is None else self._clock() - since

    def begin_pack(self, stage: Stage, numbers: Sequence[int]) -> None:
        """Count from now on."""
        self._title = f"{stage}: trial{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}"
        self._restart()

    def end_pack(self) -> None:
        """Do not count until the next pack begins."""
        self._quiet_since = None

    def note_epoch(self) -> None:
        """Count from now on, since an epoch has ended."""
        if (quiet := self.quiet_seconds) is not None:
            self._lengths.append(quiet)
        self._restart()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Let the watchdog count inside the block."""
        self._heartbeat.begin()
        try:
            yield
        finally:
            self._heartbeat.end()

    def log_if_quiet(self) -> None:
        """Log for how long there was no epoch, at growing intervals."""
        quiet = self.quiet_seconds
        if quiet is None or quiet < self._next_line:
            return
        self._next_line = quiet * self._limits.growth
        usual = f"; an epoch took {median(self._lengths):.3g} s so far" if self._lengths else ""
        log.warning(
            "%s: no epoch for %.3g minutes%s; limits.epoch_minutes in the study file ends trials that hang",
            self._title,
            quiet / 60,
            usual,
        )

    def _restart(self) -> None:
        longest = self._limits.epochs * median(self._lengths) if self._lengths else 0.0
        self._next_line = max(self._limits.seconds, longest)
        self._quiet_since = self._clock()
