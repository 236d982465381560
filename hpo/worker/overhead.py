"""Measure the time of a worker that belongs to no trial."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class OverheadClock:
    """Divides the time outside of trials into database calls and idle time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = self._database_seconds = 0.0

    def start(self) -> None:
        self._start = self._clock()

    @contextmanager
    def database(self) -> Iterator[None]:
        """Count the time inside the block as a database call."""
        start = self._clock()
        try:
            yield
        finally:
            self._database_seconds += self._clock() - start

    def exclude(self, seconds: float) -> None:
        """Leave out device seconds that are charged to trials."""
        self._start += seconds

    def take(self) -> dict[str, float]:
        """Return the seconds by activity since the last call."""
        now = self._clock()
        idle_seconds = max(0.0, now - self._start - self._database_seconds)
        seconds = {"database": self._database_seconds, "idle": idle_seconds}
        self._start, self._database_seconds = now, 0.0
        return seconds
