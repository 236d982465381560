"""Decide when checkpoints are written, and survive a store that fails."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from hpo.errors import ArtifactError
from hpo.store.checkpoints import Checkpoint
from hpo.study.schedule import LeasedTrial
from hpo.values.stage import Stage
from hpo.values.state import Arrays, SessionState
from hpo.worker.checkpoints import CheckpointError
from hpo.worker.runtime import CheckpointLimits
from hpo.worker.trial_files import TrialFiles

log = logging.getLogger("hpo.worker")


class Checkpointer:
    """Writes and reads the checkpoints and weights of one stage's trials.

    A failed write never stops the training. Of a series of failures, one is logged each minute, and the
    success that ends the series.
    """

    def __init__(
        self,
        files: TrialFiles,
        stage: Stage,
        clock: Callable[[], float],
        limits: CheckpointLimits,
    ) -> None:
        self._files, self._stage, self._clock, self._limits = files, stage, clock, limits
        self._next_save = -math.inf
        self._failing = False
        self._next_line = -math.inf

    @property
    def is_due(self) -> bool:
        """Whether a save may start: within the time share of checkpoints, and not soon after a failure."""
        return self._clock() >= self._next_save

    def save(
        self,
        trials: Mapping[int, LeasedTrial],
        states: Callable[[], Mapping[int, SessionState]],
        saved_epochs: Mapping[int, int],
        seconds: float = math.inf,
    ) -> dict[int, Checkpoint]:
        """Write the states of trials that have trained since `saved_epochs`; return the new checkpoints.

        All mappings are by trial number. No new file is started after `seconds`, which include the time that
        `states` takes to copy the states from the device.
        """
        start, saved = self._clock(), {}
        for number, state in states().items():
            if state.epochs == saved_epochs.get(number, 0) or self._clock() > start + seconds:
                continue
            name = self._attempt(
                f"the checkpoint of trial {number}",
                partial(self._files.save_checkpoint, self._stage, trials[number], state),
            )
            if name is None:
                break
            saved[number] = Checkpoint(state.epochs, name)
        if not self._failing:
            self._next_save = self._clock() + (self._clock() - start) / self._limits.max_share
        return saved

    def save_weights(self, trial: LeasedTrial, weights: Arrays) -> str | None:
        """Write the weights of a trial; return the name of the file, or None if it cannot be written."""
        return self._attempt(
            f"the weights of trial {trial.number}", partial(self._files.save_weights, trial, weights)
        )

    def load(
        self, trials: Iterable[LeasedTrial], check: Callable[[SessionState], None]
    ) -> dict[int, SessionState]:
        """Return, by number, the states of the trials whose checkpoint loads.

        `check` raises `StateError` for a state that does not fit the session. A checkpoint that was read and
        does not decode or fit is set aside. A file that cannot be read is left alone, since nothing is known
        about its content.
        """
        states = {}
        for trial in trials:
            if trial.checkpoint is None:
                continue
            try:
                states[trial.number] = self._files.load_checkpoint(trial.checkpoint, check)
            except (ArtifactError, CheckpointError) as error:
                log.warning("trial %d starts over, its checkpoint does not load: %s", trial.number, error)
                if isinstance(error, CheckpointError):
                    self._files.set_aside(trial.checkpoint.file)
        return states

    def _attempt(self, title: str, write: Callable[[], str]) -> str | None:
        try:
            name = write()
        except ArtifactError as error:
            now = self._clock()
            self._next_save = now + self._limits.retry_seconds
            if not self._failing or now >= self._next_line:
                self._next_line = now + self._limits.log_seconds
                log.warning("not saved: %s (%s); training goes on, and it is tried again", title, error)
            self._failing = True
            return None
        if self._failing:
            log.warning("saved again: %s", title)
        self._failing = False
        return name
