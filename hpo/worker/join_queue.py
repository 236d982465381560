"""Claim trials that join a running pack."""

from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

from hpo.study.schedule import LeasedTrial
from hpo.worker.outbox import Outbox
from hpo.worker.reporter import Reporter
from hpo.worker.runtime import Runtime


class ClaimMore(Protocol):
    def __call__(self, width: int) -> list[LeasedTrial]:
        """Return at most `width` trials of the pack's stage and pack key."""


class JoinQueue:
    """Trials that the outbox's thread has claimed, and that join the pack before its next epoch.

    `trials` holds the trials that are or were in the pack, by number.
    """

    def __init__(self, claim_more: ClaimMore, reporter: Reporter, outbox: Outbox, runtime: Runtime) -> None:
        self._claim_more, self._reporter, self._outbox = claim_more, reporter, outbox
        self._stop, self._clock = runtime.stop, runtime.clock
        self._join_seconds = runtime.limits.loop.join_seconds
        self.trials: dict[int, LeasedTrial] = {}
        self._joining: deque[LeasedTrial] = deque()
        self._next_look, self._is_looking = self._clock() + self._join_seconds, False

    def __bool__(self) -> bool:
        """Whether trials wait to join."""
        return bool(self._joining)

    def add(self, trials: Collection[LeasedTrial]) -> None:
        self.trials |= {trial.number: trial for trial in trials}

    def look(self, room: Callable[[], int]) -> None:
        """Claim up to `room()` trials if `join_seconds` have passed and no earlier claim is under way."""
        # First: a claim that is under way changes `trials`, which `room` reads.
        if self._is_looking or self._joining or self._clock() < self._next_look:
            return
        width = room()
        if width <= 0:
            return
        self._next_look, self._is_looking = self._clock() + self._join_seconds, True
        self._outbox.post(lambda: self._claim(width))

    def look_now(self, room: Callable[[], int]) -> None:
        """Claim up to `room()` trials unless an earlier claim is under way."""
        self._next_look = self._clock()
        self.look(room)

    def pop(self) -> list[LeasedTrial]:
        """Return the trials that join now, and remove them from the queue."""
        return [self._joining.popleft() for _ in range(len(self._joining))]

    def _claim(self, width: int) -> None:
        if self._stop.is_set():
            return  # the trials would only have to be released again
        trials = self._claim_more(width)
        # After a long outage a worker may claim trials that it has lost itself. A trial that is still a
        # member gets a new lease and does not join again.
        active = self._reporter.active
        self._reporter.add(trials)
        self.add(trials)
        self._joining.extend(trial for trial in trials if trial.number not in active)
        self._is_looking = False
