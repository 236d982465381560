"""Trains packs under a budget, an epoch at a time. Knows no study and no database."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from data.augment import affine
from data.device import DeviceImages
from hpo.budget import Budget, Phase
from hpo.epoch import EpochResult
from hpo.optimizer import Adam, Optimizer, Sgd, clip
from hpo.pack import Candidate, Factory, Pack, Weights
from hpo.seeds import mixed

EVALUATION_BATCH = 250
"""Images at once: the fastest on a CPU; more would cost memory, which a pack needs once for each member."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """How packs of one batch size are trained.

    `seed` fixes the order of the images and their augmentation in each epoch of each phase, whatever the
    pack, and the dropout for a given pack. The last, smaller batch of an epoch is trained on too, unless it
    is a single image, which batch normalisation cannot take.
    """

    factory: Factory
    train: DeviceImages
    validation: DeviceImages
    budget: Budget
    batch_size: int
    seed: int
    device: torch.device
    clock: Callable[[], float] = time.perf_counter

    def start(self, candidates: Mapping[int, Candidate]) -> "Training":
        """A pack of these candidates, each with the caller's key, before its first epoch."""
        return Training(self, candidates)


@dataclass(slots=True)
class _Member:
    key: int
    candidate: Candidate
    epochs: int = 0
    best: float = math.inf
    best_of_phase: float = math.inf
    stale: int = 0  # epochs since the best of the phase


@dataclass(frozen=True, slots=True)
class _Left:
    """A member out of the computation, until the next phase or for good, with the weights that count."""

    member: _Member
    weights: Weights  # of this one member


class Training:
    """One pack on its way through the phases of the budget.

    A member whose patience is used up is parked until all others have ended the phase; then all that are
    left begin the next one together, each from the weights that count.
    """

    def __init__(self, trainer: Trainer, candidates: Mapping[int, Candidate]) -> None:
        self._trainer = trainer
        self._active = [_Member(key, candidate) for key, candidate in candidates.items()]
        seeds = [candidate.seed for candidate in candidates.values()]
        self._pack = Pack(trainer.factory, seeds, trainer.device, trainer.train.mean.dtype)
        self._best = self._new_best()
        self._parked: list[_Left] = []
        self._finished: dict[int, _Left] = {}
        self._phase, self._epoch = 0, 0
        self._optimizer = self._new_optimizer()

    @property
    def members(self) -> list[int]:
        """The keys of the members that are not through yet."""
        return [member.key for member in self._active] + [left.member.key for left in self._parked]

    def weights(self, key: int) -> dict[str, Tensor]:
        """The state dict that counts of a member that has finished, as the budget says.

        Raises KeyError for any other member.
        """
        return self._pack.state_dict(self._finished[key].weights, 0)

    def drop(self, keys: Collection[int]) -> None:
        """These members leave, and nothing is kept of them."""
        self._parked = [left for left in self._parked if left.member.key not in keys]
        self._keep([place for place, member in enumerate(self._active) if member.key not in keys])

    def epoch(self) -> list[EpochResult]:
        """Trains and evaluates one epoch of the members that are active; a result for each.

        The device is waited for twice, so that the clock can tell training from evaluation.
        """
        if not self.members:
            return []
        if not self._active:
            self._next_phase()
        clock = self._trainer.clock
        start = clock()
        train_losses = self._train()
        trained = clock()
        losses, accuracies = self._evaluate()
        evaluated = clock()
        self._epoch += 1
        improved = [
            self._judge(member, train_loss, loss)
            for member, train_loss, loss in zip(self._active, train_losses, losses, strict=True)
        ]
        self._remember(improved)
        share = 1 / len(self._active)
        results = [
            EpochResult(
                member=member.key,
                epoch=member.epochs,
                phase=self._phase,
                train_loss=train_losses[place],
                validation_loss=losses[place],
                validation_accuracy=accuracies[place],
                seconds=(trained - start) * share,
                evaluation_seconds=(evaluated - trained) * share,
                status=self._status(member, train_losses[place], losses[place]),
                best=improved[place],
            )
            for place, member in enumerate(self._active)
        ]
        self._let_go(results)
        return results

    def _train(self) -> list[float]:
        """One pass over the training images; the mean loss per example of each active member."""
        trainer, phase, device = self._trainer, self._current_phase, self._trainer.device
        # Three seeds: from one, the first dropout masks would be the draws that the augmentation began with.
        seeds = [mixed(trainer.seed, self._phase, self._epoch, purpose) for purpose in range(3)]
        generator = torch.Generator().manual_seed(seeds[0])
        order = torch.randperm(len(trainer.train), generator=generator).to(device)
        transform = None
        if phase.augmentation is not None:
            generator = torch.Generator(device).manual_seed(seeds[1])
            transform = partial(affine, augmentation=phase.augmentation, generator=generator)
        sums = torch.zeros(len(self._pack), dtype=torch.float64, device=device)  # (M,)
        seen = 0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seeds[2])  # of dropout
            for index in torch.split(order, trainer.batch_size):
                if seen and len(index) == 1 < trainer.batch_size:
                    continue
                images, labels = trainer.train.batch(index, transform)
                losses, gradients = self._pack.gradients(images, labels)
                if phase.clip is not None:
                    clip(gradients, phase.clip)
                self._optimizer.step(self._pack.weights.parameters, gradients)
                sums += losses * len(index)
                seen += len(index)
        means: list[float] = (sums / seen).tolist()  # waits for the device
        return means

    def _evaluate(self) -> tuple[list[float], list[float]]:
        """Mean loss per example and accuracy on the validation images, of each active member."""
        validation = self._trainer.validation
        scores = torch.zeros(2, len(self._pack), dtype=torch.float64, device=self._trainer.device)  # (2, M)
        everything = torch.arange(len(validation), device=self._trainer.device)
        for index in torch.split(everything, EVALUATION_BATCH):
            scores += torch.stack(self._pack.score(*validation.batch(index)))
        losses, accuracies = (scores / len(validation)).tolist()
        return losses, accuracies

    def _judge(self, member: _Member, train_loss: float, loss: float) -> bool:
        """Counts the epoch; whether it is the member's best so far."""
        member.epochs += 1
        if not _is_finite(train_loss, loss):
            return False
        member.stale = 0 if loss < member.best_of_phase else member.stale + 1
        member.best_of_phase = min(member.best_of_phase, loss)
        better = loss < member.best
        member.best = min(member.best, loss)
        return better

    def _status(self, member: _Member, *losses: float) -> Literal["training", "finished", "diverged"]:
        if not _is_finite(*losses):
            return "diverged"
        return "finished" if self._is_last_phase and self._phase_is_over(member) else "training"

    def _remember(self, improved: Sequence[bool]) -> None:
        if self._best is not None and any(improved):
            where = torch.tensor(improved, device=self._trainer.device)
            self._best.overwrite(self._pack.weights, where)

    def _let_go(self, results: Sequence[EpochResult]) -> None:
        """Takes out of the computation who has diverged, finished, or ended the phase."""
        staying = []
        for place, (member, result) in enumerate(zip(self._active, results, strict=True)):
            if result.status == "diverged":
                continue
            if not self._phase_is_over(member):
                staying.append(place)
                continue
            counting = self._pack.weights if self._best is None else self._best
            left = _Left(member, counting.of(self._places([place])))
            if result.status == "finished":
                self._finished[member.key] = left
            else:
                self._parked.append(left)
        self._keep(staying)

    def _next_phase(self) -> None:
        """All who wait begin the next phase together, each from the weights that count."""
        self._active = [left.member for left in self._parked]
        self._pack.weights = Weights.joined([left.weights for left in self._parked])
        self._best = self._new_best()
        self._parked = []
        self._phase, self._epoch = self._phase + 1, 0
        for member in self._active:
            member.best_of_phase, member.stale = math.inf, 0
        self._optimizer = self._new_optimizer()

    def _new_optimizer(self) -> Optimizer:
        parameters = self._pack.weights.parameters
        if self._current_phase.optimizer == "adam":
            return Adam(self._current_phase.lr, parameters)
        return Sgd([member.candidate for member in self._active], parameters)

    def _keep(self, places: Sequence[int]) -> None:
        if len(places) == len(self._active):
            return
        self._active = [self._active[place] for place in places]
        index = self._places(places)
        self._pack.keep(index)
        if self._best is not None:
            self._best = self._best.of(index)
        self._optimizer.keep(index)

    def _places(self, places: Iterable[int]) -> Tensor:
        return torch.tensor(list(places), dtype=torch.int64, device=self._trainer.device)

    def _new_best(self) -> Weights | None:
        """The weights at hand as the best so far; None where the last ones count, to save the memory."""
        if self._trainer.budget.keep == "last":
            return None
        return self._pack.weights.of(self._places(range(len(self._pack))))

    @property
    def _current_phase(self) -> Phase:
        return self._trainer.budget.phases[self._phase]

    @property
    def _is_last_phase(self) -> bool:
        return self._phase == len(self._trainer.budget.phases) - 1

    def _phase_is_over(self, member: _Member) -> bool:
        phase = self._current_phase
        return self._epoch == phase.epochs or (phase.patience is not None and member.stale >= phase.patience)


def _is_finite(*losses: float) -> bool:
    return all(map(math.isfinite, losses))
