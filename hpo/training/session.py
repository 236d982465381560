"""A pack on its way through the phases of a budget: active, waiting and finished members."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch

from hpo.training.active_pack import ActivePack, EpochOutcome
from hpo.training.engines.base import Engine
from hpo.training.member import Member, MemberState, Progress, WaitingMember
from hpo.training.states import to_arrays, to_member_state, to_session_state
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.weights import Weights
from hpo.values.candidate import Candidate
from hpo.values.epoch import TRAIN_LOSS, VALIDATION_LOSS, EpochResult
from hpo.values.state import Arrays, SessionState


class PackSession:
    """Trains a pack through the phases of the budget, one epoch at a time.

    Only members of one phase are computed together: the earliest phase that any member is in. They may be at
    different epochs of that phase, and all other members wait. A member that stops early waits for the
    others. All begin the next phase together, from the weights the budget keeps (last or best epoch).

    A member has two names. Its `key` comes from the caller and appears as `EpochResult.member`; a worker uses
    the number of the trial. Its index is its row in the pack, which changes when members join or leave.

    Between two epochs the session is consistent: an epoch that raises leaves it as it was before.
    """

    def __init__(self, task: Task, recipe: Recipe, engine: Engine, runtime: Runtime) -> None:
        """Create a session without members."""
        self._task, self._budget, self._runtime = task, recipe.budget, runtime
        self._objective = recipe.objective
        self._active = ActivePack(task, recipe, engine, runtime)
        self._waiting: list[WaitingMember] = []
        self._finished: dict[int, Weights] = {}

    @property
    def members(self) -> list[int]:
        """The keys of the members that have not finished."""
        return [
            *(member.key for member in self._active.members),
            *(waiting.member.key for waiting in self._waiting),
        ]

    @property
    def phase(self) -> int:
        """The index of the phase that is computed next; members of later phases wait for it."""
        members = [*self._active.members, *(waiting.member for waiting in self._waiting)]
        return min((member.progress.phase for member in members), default=0)

    def check(self, state: SessionState) -> None:
        """Raise `StateError` if no member can resume from the state, because it is of another network."""
        to_member_state(state, self._active.structure)

    def join(self, candidates: Mapping[int, Candidate], states: Mapping[int, SessionState]) -> None:
        """Add members before the next epoch, resumed from `states` or with new weights.

        Raises `StateError`, and adds nobody, if a state does not pass `check`.
        """
        resumed = {key: to_member_state(state, self._active.structure) for key, state in states.items()}
        new = [key for key in candidates if key not in states]
        if new:
            weights = self._task.new_pack([candidates[key].seed for key in new]).weights
        for key, candidate in candidates.items():
            state = resumed.get(key)
            if state is None:
                index = torch.tensor([new.index(key)], device=self._task.device)
                state = MemberState(Progress(), weights.select(index), best=None, optimizer=None)
            self._waiting.append(WaitingMember(Member(key, candidate, replace(state.progress)), state))

    def weights(self, key: int) -> Arrays:
        """Return the kept weights of a finished member as a state dict of arrays.

        Raises KeyError for any other member.
        """
        return to_arrays(self._active.state_dict(self._finished[key]))

    def states(self, keys: Collection[int] | None = None) -> dict[int, SessionState]:
        """Return the states that members resume from, by key.

        `keys`: the members, None for all that have not finished.
        """
        cpu = torch.device("cpu")
        states = {waiting.member.key: waiting.state.to(cpu) for waiting in self._waiting}
        states |= self._active.states(cpu)
        return {key: to_session_state(state) for key, state in states.items() if keys is None or key in keys}

    def drop(self, keys: Collection[int]) -> None:
        """Remove members with all their tensors."""
        self._waiting = [waiting for waiting in self._waiting if waiting.member.key not in keys]
        self._finished = {key: weights for key, weights in self._finished.items() if key not in keys}
        self._active.keep(
            [index for index, member in enumerate(self._active.members) if member.key not in keys]
        )

    def epoch(self) -> list[EpochResult]:
        """Train and evaluate one epoch of the members of the earliest phase, and return their results.

        If an epoch raises, all members are as before it.
        """
        if not self.members:
            return []
        self._activate_earliest_phase()
        waiting, finished = list(self._waiting), dict(self._finished)
        try:
            with self._active.epoch() as run:
                return self._epoch(run)
        except BaseException:
            self._waiting, self._finished = waiting, finished
            raise

    def _epoch(self, run: Callable[[], EpochOutcome]) -> list[EpochResult]:
        with self._runtime.interruptible():
            outcome = run()
        members = self._active.members
        metrics = zip(outcome.train_losses, outcome.validation, strict=True)
        cost_of = self._objective.cost_of
        self._active.remember_best(
            [
                member.progress.count(cost_of(validation) if math.isfinite(train_loss) else math.nan)
                for member, (train_loss, validation) in zip(members, metrics, strict=True)
            ]
        )
        results = [self._result(index, outcome) for index in range(len(members))]
        self._remove_ended(results)
        return results

    def _result(self, index: int, outcome: EpochOutcome) -> EpochResult:
        member, share = self._active.members[index], 1 / len(self._active.members)
        progress = member.progress
        metrics = {TRAIN_LOSS: outcome.train_losses[index], **outcome.validation[index]}
        deciding = (TRAIN_LOSS, VALIDATION_LOSS, self._objective.key)
        return EpochResult(
            member=member.key,
            epoch=progress.epochs,
            # The validation images are among those that a refit trains on.
            metrics={TRAIN_LOSS: metrics[TRAIN_LOSS]} if self._budget.split == "all" else metrics,
            seconds=outcome.seconds * share,
            evaluation_seconds=outcome.evaluation_seconds * share,
            status=self._status(member, *(metrics[key] for key in deciding)),
            kept_epoch=progress.epochs if self._budget.keep == "last" else progress.best_epoch,
            phase=progress.phase,
        )

    def _status(self, member: Member, *values: float) -> Literal["training", "finished", "diverged"]:
        if not all(map(math.isfinite, values)):
            return "diverged"
        is_last = member.progress.phase == len(self._budget.spans(member.candidate.limits)) - 1
        return "finished" if is_last and self._has_ended_phase(member) else "training"

    def _has_ended_phase(self, member: Member) -> bool:
        progress = member.progress
        phase = self._budget.phases[progress.phase]
        stops_early = phase.patience is not None and progress.stale >= phase.patience
        return progress.phase_epochs == member.span(self._budget) or stops_early

    def _remove_ended(self, results: Sequence[EpochResult]) -> None:
        """Remove the members that have diverged, finished, or ended the phase from the computation."""
        staying = []
        for index, (member, result) in enumerate(zip(self._active.members, results, strict=True)):
            if result.status == "diverged":
                continue
            if not self._has_ended_phase(member):
                staying.append(index)
                continue
            weights = self._active.kept_weights(index)
            if result.status == "finished":
                self._finished[member.key] = weights
            else:
                member.progress.begin_next_phase()
                state = MemberState(replace(member.progress), weights, best=None, optimizer=None)
                self._waiting.append(WaitingMember(member, state))
        self._active.keep(staying)

    def _activate_earliest_phase(self) -> None:
        """Bring all members of the earliest phase into the computation, and only them."""
        phases = [waiting.member.progress.phase for waiting in self._waiting]
        if self._active.members:
            active_phase = self._active.phase
            if active_phase not in phases and min(phases, default=active_phase) >= active_phase:
                return
            phases.append(active_phase)
        members = [*self._suspended(), *self._waiting]
        members.sort(key=lambda waiting: waiting.member.key)  # the same members always make the same pack
        chosen = [waiting for waiting in members if waiting.member.progress.phase == min(phases)]
        self._active.replace([waiting.member for waiting in chosen], [waiting.state for waiting in chosen])
        self._waiting = [waiting for waiting in members if waiting not in chosen]

    def _suspended(self) -> list[WaitingMember]:
        """Return the active members with their states, as if they waited."""
        states = self._active.states(self._task.device)
        return [WaitingMember(member.copy(), states[member.key]) for member in self._active.members]
