"""A member of a pack, outside of any pack: how far it is, and the tensors it goes on from."""

import math
from dataclasses import dataclass

from hpo.training.pack import Tensors, Weights


@dataclass(slots=True)
class Progress:
    """How far a member is in its budget.

    `epochs`: trained over all phases; `phase` from 0, `phase_epochs`: trained in it. `best`: its lowest
    validation loss, at epoch `best_epoch`; `stale`: epochs since the lowest one of the phase.
    """

    epochs: int = 0
    phase: int = 0
    phase_epochs: int = 0
    best: float = math.inf
    best_epoch: int = 0
    best_of_phase: float = math.inf
    stale: int = 0

    def count(self, loss: float) -> bool:
        """Counts an epoch that gave this validation loss; whether it is the best so far."""
        self.epochs += 1
        self.phase_epochs += 1
        if not math.isfinite(loss):
            return False
        self.stale = 0 if loss < self.best_of_phase else self.stale + 1
        self.best_of_phase = min(self.best_of_phase, loss)
        if loss >= self.best:
            return False
        self.best, self.best_epoch = loss, self.epochs
        return True

    def begin_next_phase(self) -> None:
        self.phase, self.phase_epochs = self.phase + 1, 0
        self.best_of_phase, self.stale = math.inf, 0


@dataclass(frozen=True, slots=True)
class MemberState:
    """All that a member needs to go on in any pack, at the end of an epoch; each tensor is `(1, ...)`.

    The order of images, augmentation and dropout follow from seeds and `progress`, so no generator's state is
    part of it. `best`: its weights at `progress.best_epoch`, None where the last weights count or these are
    the best. `optimizer`: its optimizer's state, None before the first step of a phase.
    """

    progress: Progress
    weights: Weights
    best: Weights | None
    optimizer: Tensors | None
