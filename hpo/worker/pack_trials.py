"""The leased trials of a pack, by the database's last answer."""

from collections import deque
from collections.abc import Collection, Iterable

from hpo.store.leases import Lease
from hpo.study.schedule import LeasedTrial
from hpo.values.space import Point


class PackTrials:
    """The leases of a pack's trials, and the members that have to leave the pack.

    The outbox's thread makes all changes, after each answer of the database. The training thread reads, and
    pops the members that it has to drop or pause. Before the first delivery, `add` may also run on the
    training thread.
    """

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._trial_ids: dict[int, int] = {}
        self._points: dict[int, Point] = {}
        self._gone: set[int] = set()
        self._leaving: deque[int] = deque()
        self._pausing: deque[int] = deque()

    @property
    def leases(self) -> tuple[Lease, ...]:
        return tuple(self._leases.values())

    @property
    def open(self) -> frozenset[int]:
        """The numbers of the open trials."""
        return frozenset(self._leases)

    @property
    def gone(self) -> frozenset[int]:
        """The numbers of members that ended, paused or lost their lease. Results from them are ignored."""
        return frozenset(self._gone)

    @property
    def active(self) -> frozenset[int]:
        """The numbers of the open trials, except those that left the pack and have not rejoined yet."""
        return self.open - self._gone

    def point(self, number: int) -> Point:
        """Return the parameters of a trial that is or was in the pack."""
        return self._points[number]

    def trial_id(self, number: int) -> int:
        """Return the id of a trial that is or was in the pack."""
        return self._trial_ids[number]

    def lost(self, held: Collection[int]) -> set[int]:
        """Return the numbers of the open trials whose id is not in `held`, the ids of trials with a lease."""
        return {number for number, lease in self._leases.items() if lease.trial_id not in held}

    def leases_of(self, numbers: Collection[int]) -> dict[int, Lease]:
        """Return the leases of the open trials among `numbers`, by number."""
        return {number: lease for number, lease in self._leases.items() if number in numbers}

    def add(self, trials: Iterable[LeasedTrial]) -> None:
        """Add trials; for a trial already here, replace its lease."""
        for trial in trials:
            self._leases[trial.number] = trial.lease
            self._trial_ids[trial.number] = trial.lease.trial_id
            self._points[trial.number] = trial.point

    def remove(self, numbers: Iterable[int]) -> None:
        """Make members leave the pack."""
        numbers = set(numbers)
        self._leases = {number: lease for number, lease in self._leases.items() if number not in numbers}
        self._gone |= numbers
        self._leaving.extend(numbers)

    def readmit(self, numbers: Collection[int]) -> None:
        """Accept results again from members that left and rejoined."""
        self._gone.difference_update(numbers)

    def release(self) -> None:
        """Forget all leases."""
        self._leases = {}

    def pause(self, numbers: Iterable[int]) -> None:
        """Make members save a checkpoint and pause."""
        self._pausing.extend(numbers)

    def pop_leaving(self) -> set[int]:
        """Return the members that have to leave, each once."""
        return {self._leaving.popleft() for _ in range(len(self._leaving))}

    def pop_pausing(self) -> set[int]:
        """Return the members that have to pause, each once."""
        return {self._pausing.popleft() for _ in range(len(self._pausing))}
