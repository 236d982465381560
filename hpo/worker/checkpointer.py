"""When the files of a pack are written, and what happens when they cannot be."""

import logging
import math
from collections.abc import Callable, Mapping

from torch import Tensor

from hpo.store.checkpoints import Checkpoint
from hpo.study.schedule import LeasedTrial
from hpo.training.member import MemberState
from hpo.values.stage import Stage
from hpo.worker.trial_files import TrialFiles

log = logging.getLogger("hpo.worker")

SHARE = 0.02
"""The most of a worker's time that goes into checkpoints."""

RETRY_SECONDS = 1.0
"""How soon it is tried again after a failure."""


class Checkpointer:
    """Writes checkpoints and weights of one stage's trials. A failure never stops the training.

    The first of several failures is logged, and the success that ends them.
    """

    def __init__(self, artifacts: TrialFiles, stage: Stage, clock: Callable[[], float]) -> None:
        self._artifacts, self._stage, self._clock = artifacts, stage, clock
        self._next = -math.inf
        self._failing = False

    @property
    def is_due(self) -> bool:
        """After each epoch, unless the last time took too long for that: see `SHARE`."""
        return self._clock() >= self._next

    def save(
        self,
        trials: Mapping[int, LeasedTrial],
        states: Callable[[], Mapping[int, MemberState]],
        known: Mapping[int, int],
        seconds: float = math.inf,
    ) -> dict[int, Checkpoint]:
        """Writes the states of trials, by number, that are past the epoch in `known`; gives what was written.

        To take the states from the device is a part of the time that counts.

        Begins no file after `seconds`.
        """
        start, saved = self._clock(), {}
        for number, state in states().items():
            epochs = state.progress.epochs
            if epochs == known.get(number, 0) or self._clock() > start + seconds:
                continue
            name = self._attempt(
                f"the checkpoint of trial {number}",
                lambda: self._artifacts.save_checkpoint(self._stage, trials[number], state),  # noqa: B023
            )
            if name is None:
                break
            saved[number] = Checkpoint(epochs, name)
        if not self._failing:
            self._next = self._clock() + (self._clock() - start) / SHARE
        return saved

    def save_weights(self, trial: LeasedTrial, weights: Mapping[str, Tensor]) -> str | None:
        """Gives the name of the file, None if it could not be written."""
        return self._attempt(
            f"the weights of trial {trial.number}", lambda: self._artifacts.save_weights(trial, weights)
        )

    def _attempt(self, what: str, write: Callable[[], str]) -> str | None:
        try:
            name = write()
        except OSError as error:
            self._next = self._clock() + RETRY_SECONDS
            if not self._failing:
                log.warning("not saved: %s (%s); training goes on, and it is tried again", what, error)
            self._failing = True
            return None
        if self._failing:
            log.warning("saved again: %s", what)
        self._failing = False
        return name
