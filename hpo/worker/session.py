"""What the trial loop needs of training: sessions, and what makes them. Nothing here knows torch."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult
from hpo.values.parameters import PackKey
from hpo.values.stage import Stage
from hpo.values.state import Arrays, SessionState


class Session(Protocol):
    """Members that train together, one epoch at a time. A member's key is the number of its trial.

    An epoch that raises leaves the session as it was before that epoch.
    """

    @property
    def members(self) -> list[int]:
        """The keys of the members that have not finished."""

    @property
    def phase(self) -> int:
        """The index of the phase that is trained next. Members of later phases wait for it."""

    def join(self, candidates: Mapping[int, Candidate], states: Mapping[int, SessionState]) -> None:
        """Add members before the next epoch, resumed from `states` or from the beginning."""

    def check(self, state: SessionState) -> None:
        """Raise `StateError` if no member can resume from the state."""

    def epoch(self) -> Sequence[EpochResult]:
        """Train and evaluate one epoch, and return the results of the members that took part."""

    def states(self, keys: Collection[int] | None = None) -> Mapping[int, SessionState]:
        """Return the states of these members by key; None means all that have not finished."""

    def weights(self, key: int) -> Arrays:
        """Return the kept weights of a finished member by name."""

    def drop(self, keys: Collection[int]) -> None:
        """Remove members."""


class Trainer(Protocol):
    """Starts sessions of one stage and pack key."""

    def prepare(self) -> None:
        """Do what may take long before the first epoch, such as compiling."""

    def start(
        self, candidates: Mapping[int, Candidate], states: Mapping[int, SessionState] | None = None
    ) -> Session:
        """Return a session of these candidates, each under the caller's key, before its next epoch."""


class Trainers(Protocol):
    """Makes the trainers of a worker."""

    def make(self, stage: Stage, key: PackKey) -> Trainer:
        """Return a trainer for packs of this stage and pack key."""


class Faults(Protocol):
    """Tells the errors of a training apart, and describes the memory of its device."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether the device or the host has no memory left."""

    def is_contained(self, error: BaseException) -> bool:
        """Return whether the error was that of another process, and says nothing about this one."""

    def is_broken(self, error: BaseException) -> bool:
        """Return whether the process cannot train any more after this error."""

    def is_taken_by_others(self) -> bool:
        """Return whether other processes use much of the device's memory."""

    def memory_used(self) -> str:
        """Describe the memory that is used."""

    def release_memory(self) -> None:
        """Give memory that nothing uses any more back to the device."""
