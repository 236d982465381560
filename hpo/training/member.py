"""A member of a pack: its hyperparameters, its progress, and the state it resumes from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hpo.training.weights import Tensors, Weights
from hpo.values.budget import Budget, Phase
from hpo.values.candidate import Candidate
from hpo.values.parameters import with_defaults


@dataclass(slots=True)
class Progress:
    """How far a member has come in its budget.

    `epochs`: epochs trained over all phases. `phase`: index of the current phase, from 0. `phase_epochs`:
    epochs trained in the phase. `best`: the lowest cost of the objective, such as the validation loss,
    reached at epoch `best_epoch`. `best_of_phase`: the lowest cost of the phase. `stale`: epochs since then,
    for early stopping.
    """

    # Seven fields rather than nested objects, because a checkpoint stores them by name as flat JSON.
    epochs: int = 0
    phase: int = 0
    phase_epochs: int = 0
    best: float = math.inf
    best_epoch: int = 0
    best_of_phase: float = math.inf
    stale: int = 0

    def count(self, cost: float) -> bool:
        """Count an epoch with this cost. Return whether the cost is the best of all epochs."""
        self.epochs += 1
        self.phase_epochs += 1
        if not math.isfinite(cost):
            return False
        self.stale = 0 if cost < self.best_of_phase else self.stale + 1
        self.best_of_phase = min(self.best_of_phase, cost)
        if cost >= self.best:
            return False
        self.best, self.best_epoch = cost, self.epochs
        return True

    def begin_next_phase(self) -> None:
        """Move on to the next phase. The best epoch of all phases is kept."""
        self.phase, self.phase_epochs = self.phase + 1, 0
        self.best_of_phase, self.stale = math.inf, 0


@dataclass(frozen=True, slots=True)
class MemberState:
    """Everything a member needs to resume in any pack, at the end of an epoch. Each tensor is `(1, ...)`.

    No generator state is stored: the order of images, augmentation and dropout follow from seeds and
    `progress`.

    `best`: the weights at epoch `progress.best_epoch`. It is None if the budget keeps the last weights, or if
    `weights` are the best. `optimizer`: the optimizer's state, None before the first step of a phase.
    `average`: the average of the weights, None before the first step of a phase or if the phase has none.
    """

    progress: Progress
    weights: Weights
    best: Weights | None
    optimizer: Tensors | None
    average: Weights | None = None

    def to(self, device: torch.device) -> "MemberState":
        """Return the state with its tensors on `device` and a copy of the progress."""
        best, optimizer, average = self.best, self.optimizer, self.average
        return MemberState(
            replace(self.progress),
            self.weights.to(device),
            None if best is None else best.to(device),
            None if optimizer is None else {name: tensor.to(device) for name, tensor in optimizer.items()},
            None if average is None else average.to(device),
        )


@dataclass(slots=True)
class Member:
    """A member that is being trained; `key` is the name that the caller gave it, see `PackSession`."""

    key: int
    candidate: Candidate
    progress: Progress

    def span(self, budget: Budget) -> int:
        """Return the number of epochs after which the member leaves its phase, unless it stops early."""
        return budget.spans(self.candidate.limits)[self.progress.phase]

    def copy(self) -> "Member":
        """Return a copy whose progress can change independently."""
        return replace(self, progress=replace(self.progress))


def params_in(phase: Phase, members: Sequence[Member]) -> list[Mapping[str, Any]]:
    """Return the hyperparameters of each member in a phase, whose own take the place of the member's."""
    params: list[Mapping[str, Any]] = [member.candidate.params for member in members]
    return [with_defaults({**own, **phase.params}) for own in params] if phase.params else params


@dataclass(frozen=True, slots=True, eq=False)
class WaitingMember:
    """A member outside the computation, with the state it resumes from."""

    member: Member
    state: MemberState
