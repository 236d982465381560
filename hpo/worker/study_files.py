"""What the loops of a worker need of a study's files."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from hpo.store.checkpoints import Checkpoint
from hpo.study.schedule import LeasedTrial
from hpo.values.stage import Stage
from hpo.values.state import Arrays, SessionState
from hpo.worker.pack_writer import FileCleanup


class Checkpoints(Protocol):
    """The checkpoints and weights of one stage's trials. All mappings are by trial number."""

    @property
    def is_due(self) -> bool:
        """Whether a save of all members may start."""

    def save(
        self,
        trials: Mapping[int, LeasedTrial],
        states: Callable[[], Mapping[int, SessionState]],
        saved_epochs: Mapping[int, int],
        seconds: float = ...,
    ) -> dict[int, Checkpoint]:
        """Write the states of trials that have trained since `saved_epochs`; return the new checkpoints.

        No new file is started after `seconds`.
        """

    def save_weights(self, trial: LeasedTrial, weights: Arrays) -> str | None:
        """Write the weights of a trial; return the name of the file, or None if it cannot be written."""

    def load(
        self, trials: Iterable[LeasedTrial], check: Callable[[SessionState], None]
    ) -> dict[int, SessionState]:
        """Return the states of the trials whose checkpoint loads and passes `check`, see `Session.check`."""


class StudyFiles(Protocol):
    """The files of one study."""

    def checkpoints(self, stage: Stage) -> Checkpoints:
        """Return the checkpoints of a stage, the same object each time."""

    def cleanup(self, stage: Stage) -> FileCleanup:
        """Return the callbacks for files that no trial of the stage needs any more."""

    def sweep(self, in_use: Callable[[], set[str] | None]) -> None:
        """Delete files that nothing refers to.

        `in_use` returns the last parts of the names that a trial needs, or None while a worker may write.
        """
