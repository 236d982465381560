"""Trains packs under a budget, an epoch at a time. Knows no study and no database."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import Overlap, sent
from hpo.training.batches import batches_of_members
from hpo.training.engines.eager import Engine
from hpo.training.loops import TrainingPass, validate
from hpo.training.member import MemberState, Progress
from hpo.training.optimizers import Adam, Optimizer, Sgd
from hpo.training.pack import Candidate, Factory, Pack, Tensors, Weights
from hpo.values.budget import Budget, Phase
from hpo.values.epoch import EpochResult
from hpo.values.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Trainer:
    """How packs of one batch size are trained.

    `seed` fixes the order of the images and their augmentation in each epoch of each phase, whatever the
    pack. `interruptible` is entered where an exception may come at any moment, from a signal say. With
    `overlap` an epoch is evaluated beside the training of the next one.
    """

    factory: Factory
    train: DeviceImages
    validation: DeviceImages
    budget: Budget
    batch_size: int
    seed: int
    device: torch.device
    clock: Callable[[], float] = time.perf_counter
    interruptible: Callable[[], AbstractContextManager[object]] = nullcontext
    engine: Engine = Engine()  # noqa: RUF009 - it has no state
    overlap: Overlap | None = None

    def prepare(self) -> None:
        """What has to be done once before such packs are trained: see `Engine.prepare`."""
        with self.interruptible():
            self.engine.prepare(self.batch_size, self.budget.phases)

    def start(
        self, candidates: Mapping[int, Candidate], states: Mapping[int, MemberState] | None = None
    ) -> "PackSession":
        """A pack of these candidates, each with the caller's key, before its next epoch.

        Those in `states` go on from there, the others begin.
        """
        training = PackSession(self, self.new_pack([0]))
        training.join(candidates, states or {})
        return training

    def new_pack(self, seeds: Sequence[int]) -> Pack:
        return Pack(self.factory, seeds, self.device, self.train.mean.dtype)


@dataclass(slots=True)
class _Member:
    key: int
    candidate: Candidate
    progress: Progress


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A member outside of the computation, with what it goes on from."""

    member: _Member
    state: MemberState


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """An epoch of the active members on its way, and copies of what they began it with."""

    training: TrainingPass
    weights: Weights
    optimizer: Tensors


class PackSession:
    """A pack on its way through the phases of the budget.

    Only members of one phase are computed together, the earliest that any member is in; they may be at
    different epochs of it. All others wait. A member whose patience is used up waits until the others have
    ended the phase, and they begin the next one together, each from the weights that count.

    Between two epochs the training is whole: an epoch that raises leaves it as it was before. Where the next
    one has been begun already, beside the evaluation of the last, nothing of it is seen, and it is given up
    when the members become others.
    """

    def __init__(self, trainer: Trainer, pack: Pack) -> None:
        """Without members; `pack` gives the structure only."""
        self._trainer, self._pack = trainer, pack
        self._active: list[_Member] = []
        self._waiting: list[_Waiting] = []
        self._finished: dict[int, Weights] = {}
        # What follows is of the active members, in their order, and of no meaning while there are none.
        self._best: Weights | None = None  # None where the last weights count, to save the memory
        self._optimizer: Optimizer
        self._ahead: _Begun | None = None  # the next epoch, if it is begun
        # What is evaluated beside the training; it is given the weights each time.
        self._evaluated = pack if trainer.overlap is None else trainer.new_pack([0])

    @property
    def members(self) -> list[int]:
        """The keys of the members that are not through yet."""
        return [member.key for member in self._active] + [waiting.member.key for waiting in self._waiting]

    @property
    def phase(self) -> int:
        """The phase that is computed next, for which all members of later ones wait."""
        members = [*self._active, *(waiting.member for waiting in self._waiting)]
        return min((member.progress.phase for member in members), default=0)

    def join(self, candidates: Mapping[int, Candidate], states: Mapping[int, MemberState]) -> None:
        """Takes on more members, from the next epoch on."""
        fresh = [key for key in candidates if key not in states]
        if fresh:
            weights = self._trainer.new_pack([candidates[key].seed for key in fresh]).weights
        for key, candidate in candidates.items():
            state = states.get(key) or MemberState(
                Progress(), weights.of(self._places([fresh.index(key)])), best=None, optimizer=None
            )
            self._waiting.append(_Waiting(_Member(key, candidate, replace(state.progress)), state))

    def weights(self, key: int) -> dict[str, Tensor]:
        """The state dict that counts of a member that has finished, as the budget says.

        Raises KeyError for any other member.
        """
        weights = self._finished[key]
        return self._pack.state_dict(weights, 0)

    def states(self, keys: Collection[int] | None = None) -> dict[int, MemberState]:
        """What members go on from, these or all that are not through yet, with tensors on the CPU."""
        cpu = torch.device("cpu")
        waiting = {one.member.key: _on(one.state, cpu) for one in self._waiting}
        states = waiting | self._active_states(cpu)
        return {key: state for key, state in states.items() if keys is None or key in keys}

    def drop(self, keys: Collection[int]) -> None:
        """These members leave, and nothing is kept of them."""
        self._waiting = [waiting for waiting in self._waiting if waiting.member.key not in keys]
        self._finished = {key: weights for key, weights in self._finished.items() if key not in keys}
        self._keep([place for place, member in enumerate(self._active) if member.key not in keys])

    def epoch(self) -> list[EpochResult]:
        """Trains and evaluates one epoch of the members of the earliest phase; a result for each.

        After an exception all members are as before.
        """
        if not self.members:
            return []
        self._gather()
        begun = self._ahead or self._begin()
        members = [replace(member, progress=replace(member.progress)) for member in self._active]
        before = members, self._best, self._optimizer, list(self._waiting), dict(self._finished)
        self._ahead = None
        try:
            return self._epoch(begun)
        except BaseException:
            self._active, self._best, self._optimizer, self._waiting, self._finished = before
            self._ahead = begun
            self._go_back()
            raise

    def _epoch(self, begun: _Begun) -> list[EpochResult]:
        with self._trainer.interruptible():
            (train_losses, losses, accuracies), seconds, evaluation_seconds = self._figures(begun)
        improved = [
            member.progress.count(loss if math.isfinite(train_loss) else math.nan)
            for member, train_loss, loss in zip(self._active, train_losses, losses, strict=True)
        ]
        self._remember(improved)
        share = 1 / len(self._active)
        results = [
            EpochResult(
                member=member.key,
                epoch=member.progress.epochs,
                phase=member.progress.phase,
                train_loss=train_losses[place],
                validation_loss=losses[place],
                validation_accuracy=accuracies[place],
                seconds=seconds * share,
                evaluation_seconds=evaluation_seconds * share,
                status=self._status(member.progress, train_losses[place], losses[place]),
                kept_epoch=self._kept_epoch(member.progress),
            )
            for place, member in enumerate(self._active)
        ]
        self._let_go(results)
        return results

    def _figures(self, begun: _Begun) -> tuple[list[list[float]], float, float]:
        """Mean losses per example on the training images, on the validation images, and accuracies there, of
        each active member; the seconds of the training, and those that nothing but the evaluation took."""
        trainer, clock = self._trainer, self._trainer.clock
        start = clock()
        begun.training.run()
        if trainer.overlap is None or not self._goes_on:
            train_losses = begun.training.losses().tolist()  # waits for the device
            trained = clock()
            figures = [train_losses, *validate(trainer.engine, self._pack, trainer.validation).tolist()]
        else:
            self._ahead = ahead = self._begin(later=1)
            self._evaluated.weights = ahead.weights

            def compute() -> Tensor:
                scores = validate(trainer.engine, self._evaluated, trainer.validation)
                return torch.cat([begun.training.losses()[None], scores])  # (3, M)

            outcome = trainer.overlap.begin(compute)
            ahead.training.run(outcome.done)
            trained = clock()
            figures = outcome.values()
        return figures, trained - start, clock() - trained

    def _begin(self, later: int = 0) -> _Begun:
        """The next epoch of the active members, or one so many `later`, from where their tensors are."""
        trainer, phase = self._trainer, self._phase
        rule = trainer.budget.phases[phase]
        epochs = [member.progress.phase_epochs + later for member in self._active]
        self._pack.seed_dropout(
            [
                derive_seed(m.candidate.seed, phase, epoch)
                for m, epoch in zip(self._active, epochs, strict=True)
            ]
        )
        training = TrainingPass(
            trainer.engine,
            self._pack,
            self._optimizer,
            rule.clip,
            batches_of_members(trainer.train, trainer.batch_size, trainer.seed, phase, epochs, rule),
            seed=derive_seed(trainer.seed, phase, min(epochs), 2),
        )
        optimizer = {name: tensor.clone() for name, tensor in self._optimizer.state.items()}
        return _Begun(training, self._pack.weights.copy(), optimizer)

    def _go_back(self) -> None:
        """Forgets the epoch that is begun, once the device computes nothing of it any more."""
        if self._ahead is None:
            return
        self._pack.weights = self._ahead.weights
        self._optimizer.load(self._ahead.optimizer)
        self._ahead = None
        if self._trainer.overlap is not None:
            self._trainer.overlap.wait()

    @property
    def _goes_on(self) -> bool:
        """Whether all active members have a next epoch in the phase, unless their patience is used up."""
        epochs = self._trainer.budget.phases[self._phase].epochs
        return all(member.progress.phase_epochs + 1 < epochs for member in self._active)

    def _status(self, progress: Progress, *losses: float) -> Literal["training", "finished", "diverged"]:
        if not all(map(math.isfinite, losses)):
            return "diverged"
        is_last = progress.phase == len(self._trainer.budget.phases) - 1
        return "finished" if is_last and self._phase_is_over(progress) else "training"

    def _phase_is_over(self, progress: Progress) -> bool:
        phase = self._trainer.budget.phases[progress.phase]
        used_up = phase.patience is not None and progress.stale >= phase.patience
        return progress.phase_epochs == phase.epochs or used_up

    def _kept_epoch(self, progress: Progress) -> int:
        return progress.epochs if self._trainer.budget.keep == "last" else progress.best_epoch

    def _remember(self, improved: Sequence[bool]) -> None:
        if self._best is not None and any(improved):
            where = sent(torch.tensor(improved), self._trainer.device)
            self._best = self._best.replaced(self._weights, where)

    def _let_go(self, results: Sequence[EpochResult]) -> None:
        """Takes out of the computation who has diverged, finished, or ended the phase."""
        staying = []
        for place, (member, result) in enumerate(zip(self._active, results, strict=True)):
            if result.status == "diverged":
                continue
            if not self._phase_is_over(member.progress):
                staying.append(place)
                continue
            counting = (self._weights if self._best is None else self._best).of(self._places([place]))
            if result.status == "finished":
                self._finished[member.key] = counting
            else:
                member.progress.begin_next_phase()
                state = MemberState(replace(member.progress), counting, best=None, optimizer=None)
                self._waiting.append(_Waiting(member, state))
        self._keep(staying)

    def _gather(self) -> None:
        """Brings all members of the earliest phase into the computation, and only them."""
        phases = [waiting.member.progress.phase for waiting in self._waiting]
        if self._active:
            if self._phase not in phases and min(phases, default=self._phase) >= self._phase:
                return
            phases.append(self._phase)
        everyone = [*self._parked(), *self._waiting]
        everyone.sort(key=lambda waiting: waiting.member.key)  # the same members make the same pack
        chosen = [waiting for waiting in everyone if waiting.member.progress.phase == min(phases)]
        self._compute([one.member for one in chosen], [one.state for one in chosen])
        self._waiting = [waiting for waiting in everyone if waiting not in chosen]

    def _parked(self) -> list[_Waiting]:
        states = self._active_states(self._trainer.device)
        return [
            _Waiting(replace(member, progress=replace(member.progress)), states[member.key])
            for member in self._active
        ]

    def _compute(self, members: list[_Member], states: Sequence[MemberState]) -> None:
        """Makes these the active members, each from its state. After an exception nothing has changed."""
        self._go_back()
        device, budget = self._trainer.device, self._trainer.budget
        states = [_on(state, device) for state in states]
        weights = Weights.joined([state.weights for state in states])
        best = None
        if budget.keep == "best":
            best = Weights.joined([state.best or state.weights for state in states])
        phase = budget.phases[members[0].progress.phase]
        optimizer = _optimizer(phase, [member.candidate for member in members], weights.parameters)
        optimizer.load(
            {
                name: torch.cat(
                    [
                        tensor[place : place + 1] if state.optimizer is None else state.optimizer[name]
                        for place, state in enumerate(states)
                    ]
                )
                for name, tensor in optimizer.state.items()
            }
        )
        self._active, self._pack.weights, self._best, self._optimizer = members, weights, best, optimizer

    def _active_states(self, device: torch.device) -> dict[int, MemberState]:
        """Copies of the states of the active members, by key, on `device`."""
        if not self._active:
            return {}
        state = self._optimizer.state if self._ahead is None else self._ahead.optimizer
        weights = self._weights.to(device)
        best = None if self._best is None else self._best.to(device)
        optimizer = {name: tensor.to(device) for name, tensor in state.items()}
        found = {}
        for place, member in enumerate(self._active):
            index = torch.tensor([place], device=device)
            found[member.key] = MemberState(
                replace(member.progress),
                weights.of(index),
                None if best is None else best.of(index),
                {name: tensor.index_select(0, index) for name, tensor in optimizer.items()},
            )
        return found

    def _keep(self, places: Sequence[int]) -> None:
        """Shrinks to the active members at these places."""
        if len(places) == len(self._active):
            return
        staying = [self._active[place] for place in places]
        if staying:
            states = self._active_states(self._trainer.device)
            self._compute(staying, [states[member.key] for member in staying])
        else:
            self._go_back()
            self._active = []

    def _places(self, places: Iterable[int]) -> Tensor:
        return torch.tensor(list(places), dtype=torch.int64, device=self._trainer.device)

    @property
    def _phase(self) -> int:
        """Of the active members."""
        return self._active[0].progress.phase

    @property
    def _weights(self) -> Weights:
        """Of the active members, at the end of their last whole epoch."""
        return self._pack.weights if self._ahead is None else self._ahead.weights


def _optimizer(phase: Phase, candidates: Sequence[Candidate], parameters: Tensor) -> Optimizer:
    return Adam(phase.lr, parameters) if phase.optimizer == "adam" else Sgd(candidates, parameters)


def _on(state: MemberState, device: torch.device) -> MemberState:
    return MemberState(
        replace(state.progress),
        state.weights.to(device),
        None if state.best is None else state.best.to(device),
        None if state.optimizer is None else {n: tensor.to(device) for n, tensor in state.optimizer.items()},
    )
