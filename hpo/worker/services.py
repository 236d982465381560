"""What the loops of a worker work with, besides the study: real, or simulated in a replay."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hpo.worker.context import WorkerContext
from hpo.worker.interruption import Interruption
from hpo.worker.outbox import Outbox
from hpo.worker.overhead import OverheadClock
from hpo.worker.session import Faults, Trainers
from hpo.worker.study_files import StudyFiles
from hpo.worker.trial_loop import Beside

T = TypeVar("T")


class Call(Protocol):
    """Calls the storage, and waits for an answer however long it is away."""

    def __call__(self, function: Callable[[], T], /) -> T:
        """Return the result of `function`."""


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators of a worker's loops.

    `beside`: the context of a long preparation, in which a pack looks for more trials.
    """

    trainers: Trainers
    faults: Faults
    files: StudyFiles
    outbox: Outbox
    overhead: OverheadClock
    call: Call
    beside: Beside


class Training(Protocol):
    """A way to train: of one kind of trial, on any device."""

    def trainers(self, context: WorkerContext, interruption: Interruption) -> Trainers:
        """Return what makes the trainers of a worker."""

    def faults(self, device: str) -> Faults:
        """Return what tells the errors of a device apart."""
