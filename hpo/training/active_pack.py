"""The members that are computed together: their tensors, and one epoch of training and evaluation."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from hpo.training.async_evaluation import send
from hpo.training.average import AveragedStep, shares
from hpo.training.batches import PhaseBatches
from hpo.training.columns import DROPOUT, step_settings
from hpo.training.engines.base import Engine
from hpo.training.loops import Step, TrainingLoop, evaluate
from hpo.training.member import Member, MemberState, params_in
from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.registry import create_optimizer, step_columns
from hpo.training.pack import Pack
from hpo.training.schedules import Epoch, ScheduledStep, learning_rates
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.weights import Tensors, Weights
from hpo.values.budget import Augmentation, Phase
from hpo.values.epoch import Metrics
from hpo.values.parameters import Role, of_role
from hpo.values.seeds import Purpose


@dataclass(frozen=True, slots=True)
class EpochOutcome:
    """The results of an epoch: the mean training loss per example and the validation metrics of each member,
    and seconds of the pack.

    `evaluation_seconds` counts only time in which nothing was trained.
    """

    train_losses: list[float]
    validation: Sequence[Metrics]
    seconds: float
    evaluation_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _BegunEpoch:
    """An epoch that has begun, with copies of the tensors it began from."""

    loop: TrainingLoop
    weights: Weights
    average: Weights | None
    optimizer: Tensors

    @property
    def evaluated(self) -> Weights:
        """The weights that count as the result of the last epoch."""
        return self.weights if self.average is None else self.average


class ActivePack:
    """The active members of a session: all in one phase of the budget, perhaps at different epochs.

    With an evaluator, the next epoch may begin while the last one is evaluated. Methods and properties never
    show the begun epoch, and it is discarded when the members change.
    """

    def __init__(self, task: Task, recipe: Recipe, engine: Engine, runtime: Runtime) -> None:
        self._task, self._recipe, self._engine, self._runtime = task, recipe, engine, runtime
        self._pack = task.new_pack([0])  # only its structure is used until `replace` sets the weights
        self.members: list[Member] = []
        # The attributes below belong to the members, in their order. They are meaningless without members.
        self._best: Weights | None = None  # None if the budget keeps the last weights, to save memory
        self._average: Weights | None = None  # None if the phase has none
        self._optimizer: Optimizer
        self._ahead: _BegunEpoch | None = None  # the next epoch, if it has begun
        # The pack that is evaluated while `_pack` trains, or whose weights are averages.
        has_own = runtime.evaluator is not None or any(phase.ema for phase in recipe.budget.phases)
        self._evaluated = task.new_pack([0]) if has_own else self._pack

    @property
    def phase(self) -> int:
        """The index of the phase that the members are in."""
        return self.members[0].progress.phase

    @property
    def structure(self) -> Weights:
        """Weights of the network, for their names, shapes and order."""
        return self._pack.weights

    def replace(self, members: list[Member], states: Sequence[MemberState]) -> None:
        """Make `members` the active members, each from its state. If this raises, no member has changed."""
        self._discard_ahead()
        budget = self._recipe.budget
        states = [state.to(self._task.device) for state in states]
        weights = Weights.concatenate([state.weights for state in states])
        best = None
        if budget.keep == "best":
            best = Weights.concatenate([state.best or state.weights for state in states])
        phase, average = budget.phases[members[0].progress.phase], None
        if phase.ema is not None:
            average = Weights.concatenate([state.average or state.weights for state in states])
        params = params_in(phase, members)
        names = step_columns(phase, self._recipe.columns)
        columns = step_settings(
            [*of_role(names, Role.LOSS), *of_role(names, Role.CLIP)],
            params,
            weights.parameters,
            phase.clip,
            self._task.balanced_weights,
        )
        settings = params if phase.settings is None else [phase.settings] * len(members)
        optimizer = create_optimizer(phase.optimizer, settings, weights.parameters, names)
        optimizer.load(
            {
                name: torch.cat(
                    [
                        initial[index : index + 1] if state.optimizer is None else state.optimizer[name]
                        for index, state in enumerate(states)
                    ]
                )
                for name, initial in optimizer.state.items()
            }
        )
        self.members, self._best, self._average, self._optimizer = members, best, average, optimizer
        self._pack.weights, self._pack.columns = weights, columns
        rates = tuple(values.get(DROPOUT) for values in params)
        self._pack.dropout_rates = rates if DROPOUT in names else None

    def keep(self, indices: Sequence[int]) -> None:
        """Keep only the members at these indices."""
        if len(indices) == len(self.members):
            return
        staying = [self.members[index] for index in indices]
        if staying:
            states = self.states(self._task.device)
            self.replace(staying, [states[member.key] for member in staying])
        else:
            self._discard_ahead()
            self.members = []

    def states(self, device: torch.device) -> dict[int, MemberState]:
        """Return copies of the members' states on `device`, by key, as of the last whole epoch."""
        if not self.members:
            return {}
        state = self._optimizer.state if self._ahead is None else self._ahead.optimizer
        weights = self._weights.to(device)
        parts = self._best, self._average_of_epoch
        best, average = (None if part is None else part.to(device) for part in parts)
        optimizer = {name: tensor.to(device) for name, tensor in state.items()}
        states = {}
        for index, member in enumerate(self.members):
            row = torch.tensor([index], device=device)
            states[member.key] = MemberState(
                replace(member.progress),
                weights.select(row),
                None if best is None else best.select(row),
                {name: tensor.index_select(0, row) for name, tensor in optimizer.items()},
                None if average is None else average.select(row),
            )
        return states

    def kept_weights(self, index: int) -> Weights:
        """Return a copy `(1, ...)` of the weights that the budget keeps of a member: last or best epoch."""
        weights = self._result if self._best is None else self._best
        return weights.select(torch.tensor([index], device=self._task.device))

    def remember_best(self, improved: Sequence[bool]) -> None:
        """Store the resulting weights of the members whose last epoch `improved` on their best epoch."""
        if self._best is not None and any(improved):
            mask = send(torch.tensor(improved), self._task.device)
            self._best = self._best.replace(self._result, mask)

    def state_dict(self, weights: Weights) -> dict[str, Tensor]:
        """Return weights `(1, ...)` as the state dict of an ordinary module."""
        return self._pack.state_dict(weights, 0)

    @contextmanager
    def epoch(self) -> Iterator[Callable[[], EpochOutcome]]:
        """Begin an epoch; the block calls the given function to run it.

        If the block raises, all members are as they were before the epoch.
        """
        begun = self._ahead or self._begin()
        saved = [member.copy() for member in self.members], self._best, self._optimizer
        self._ahead = None
        try:
            yield partial(self._run, begun)
        except BaseException:
            self.members, self._best, self._optimizer = saved
            self._ahead = begun
            self._discard_ahead()
            raise

    def _run(self, begun: _BegunEpoch) -> EpochOutcome:
        clock, evaluator = self._runtime.clock, self._runtime.evaluator
        start = clock()
        begun.loop.run()
        if evaluator is None or not self._all_have_next_epoch:
            train_losses = begun.loop.losses().tolist()  # waits for the device
            trained = clock()
            if self._average is not None:
                self._evaluated.weights = self._average
            rows = self._evaluate(self._pack if self._average is None else self._evaluated).tolist()
        else:
            self._ahead = ahead = self._begin(later=1)
            self._evaluated.weights = ahead.evaluated
            pending = evaluator.begin(partial(self._metrics, begun.loop))
            ahead.loop.run(pending.done)
            trained = clock()
            train_losses, *rows = pending.values()
        by_member = zip(*rows, strict=True)
        validation = [dict(zip(self._task.criterion.names, values, strict=True)) for values in by_member]
        return EpochOutcome(train_losses, validation, trained - start, clock() - trained)

    def _metrics(self, loop: TrainingLoop) -> Tensor:
        """Return the training losses and the validation metrics of `_evaluated`, `(1 + metrics, M)`."""
        return torch.cat([loop.losses()[None], self._evaluate(self._evaluated)])

    def _evaluate(self, pack: Pack) -> Tensor:
        return evaluate(self._engine, pack, self._task.validation)

    def _begin(self, later: int = 0) -> _BegunEpoch:
        """Begin the next epoch of the members from their current tensors, or the epoch `later` after it."""
        recipe, phase = self._recipe, self.phase
        rule = recipe.budget.phases[phase]
        epochs = [member.progress.phase_epochs + later for member in self.members]
        self._pack.seed_dropout(
            [
                Purpose.DROPOUT.derive(member.candidate.seed, phase, epoch)
                for member, epoch in zip(self.members, epochs, strict=True)
            ]
        )
        batches = PhaseBatches(self._task.train, recipe.batch_size, recipe.seed, phase, rule.augmentation)
        step, average = self._step(rule, epochs, batches.steps), self._average
        if rule.ema is not None and average is not None:
            step = AveragedStep.of(step, self._pack, average, shares(rule.ema, epochs, batches.steps))
            average = average.copy()
        loop = TrainingLoop(
            step,
            self._pack,
            batches.members(epochs, self._augmentations(rule)),
            seed=Purpose.EPOCH_GENERATORS.derive(recipe.seed, phase, min(epochs)),
        )
        optimizer = {name: tensor.clone() for name, tensor in self._optimizer.state.items()}
        return _BegunEpoch(loop, self._pack.weights.copy(), average, optimizer)

    def _step(self, phase: Phase, epochs: Sequence[int], steps: int) -> Step:
        """Return the step of an epoch of `steps` steps, in which the members are at `epochs` of the phase."""
        step = partial(self._engine.step, self._pack, self._optimizer, phase.clip)
        in_use = [*self._recipe.columns, *phase.params]
        if phase.settings is not None or not of_role(in_use, Role.SCHEDULE):
            return step
        params = params_in(phase, self.members)
        rates = learning_rates(params, [Epoch(epoch, steps, phase.epochs) for epoch in epochs])
        if rates is None:
            return step
        settings = self._optimizer.settings
        rates = send(rates.to(settings["lr"].dtype), self._task.device)
        return ScheduledStep(step, settings, iter(rates))

    def _augmentations(self, phase: Phase) -> list[Augmentation | None] | None:
        """Return the augmentation of each member, None where the study searches no strength."""
        searched = of_role(self._recipe.columns, Role.AUGMENTATION)
        if not searched:
            return None
        params = [member.candidate.params for member in self.members]
        return [Augmentation.of(values, searched, phase.augmentation) for values in params]

    def _discard_ahead(self) -> None:
        """Discard the begun epoch, once the device has finished its queued steps."""
        if self._ahead is None:
            return
        self._pack.weights, self._average = self._ahead.weights, self._ahead.average
        self._optimizer.load(self._ahead.optimizer)
        self._ahead = None
        if self._runtime.evaluator is not None:
            self._runtime.evaluator.wait()

    @property
    def _all_have_next_epoch(self) -> bool:
        """Whether every member has a next epoch in the phase, if early stopping does not end it."""
        budget = self._recipe.budget
        return all(member.progress.phase_epochs + 1 < member.span(budget) for member in self.members)

    @property
    def _weights(self) -> Weights:
        """The weights at the end of the last whole epoch."""
        return self._pack.weights if self._ahead is None else self._ahead.weights

    @property
    def _average_of_epoch(self) -> Weights | None:
        """The average at the end of the last whole epoch."""
        return self._average if self._ahead is None else self._ahead.average

    @property
    def _result(self) -> Weights:
        """The weights that count as the result of the last whole epoch."""
        return self._average_of_epoch or self._weights
