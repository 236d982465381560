"""Train one pack, from its claim to the end of its last trial."""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from hpo.study.schedule import LeasedTrial
from hpo.training.member import MemberState
from hpo.training.session import PackSession
from hpo.training.trainer import Trainer
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult
from hpo.values.parameters import with_defaults
from hpo.values.stage import Stage
from hpo.worker.checkpointer import Checkpointer
from hpo.worker.interruption import StopRequested
from hpo.worker.join_queue import ClaimMore, JoinQueue
from hpo.worker.outbox import Outbox
from hpo.worker.reporter import Reporter
from hpo.worker.runtime import Runtime

log = logging.getLogger("hpo.worker")


@dataclass(frozen=True, slots=True)
class PackSettings:
    """Settings of one pack: its stage and its largest width.

    `fills`: queued trials take the places of members that leave. Otherwise only trials that lost their worker
    join.
    """

    stage: Stage
    width: int
    fills: bool


@dataclass(frozen=True, slots=True)
class LoopServices:
    """The collaborators of a trial loop, besides the trainer."""

    reporter: Reporter
    outbox: Outbox
    checkpointer: Checkpointer
    claim_more: ClaimMore
    log_progress: Callable[[Sequence[EpochResult]], None]


class TrialLoop:
    """The loop around a `PackSession`: epochs, reports, checkpoints, and trials that join or leave.

    `run` returns once every trial has ended, paused or lost its lease, and all reports are delivered. If
    `stop` is set, `run` saves the trials and puts them back into the queue. An exception of an epoch
    propagates; the session is as before that epoch.
    """

    def __init__(
        self,
        trainer: Trainer,
        trials: Sequence[LeasedTrial],
        pack: PackSettings,
        services: LoopServices,
        runtime: Runtime,
    ) -> None:
        self._trainer, self._pack = trainer, pack
        self._reporter, self._outbox = services.reporter, services.outbox
        self._checkpointer, self._log_progress = services.checkpointer, services.log_progress
        self._stop, self._clock, self._limits = runtime.stop, runtime.clock, runtime.limits.loop
        self._joining = JoinQueue(services.claim_more, services.reporter, services.outbox, runtime)
        self._joining.add(trials)
        self._saved_epochs: dict[int, int] = {}  # the epoch of the last checkpoint, by number
        self._unsaved: dict[int, EpochResult] = {}  # finished trials whose weights are not written yet
        self._session: PackSession = trainer.start(_candidates(trials), self._load_states(trials))

    @property
    def members(self) -> list[int]:
        """The numbers of the trials in the pack."""
        return self._session.members

    @property
    def width(self) -> int:
        return len(self.members)

    def run(self) -> None:
        try:
            with self._joining.looking(self._room):
                self._trainer.prepare()
            while not self._stop.is_set() and self._step():
                pass
        except StopRequested:
            self._stop.set()
        if self._stop.is_set():
            self.suspend()

    def suspend(self) -> None:
        """Save the trials as of their last whole epoch, and put them back into the queue."""
        self._save(self._limits.suspend_seconds)
        self._reporter.release()
        self._outbox.wait(self._limits.release_seconds)

    def _step(self) -> bool:
        """Train an epoch, retry unsaved weights, or wait for the outbox; return whether work is left."""
        self._admit()
        if self.members:
            self._train()
            return True
        if self._unsaved:
            self._stop.wait(self._limits.retry_seconds)
            self._report([])
            return True
        return not self._outbox.wait(self._limits.retry_seconds) or bool(self._joining)

    def _train(self) -> None:
        """Train and report one epoch."""
        width, results = self.width, self._session.epoch()
        self._log_progress(results)
        self._report(results)
        if self._pack.fills and 0 < self.width < width:
            self._fill()
        # A checkpoint counts once the database has its name, so none is written while the database is away.
        if self._checkpointer.is_due and self._outbox.reachable and not self._stop.is_set():
            self._save()

    def _report(self, results: Sequence[EpochResult]) -> None:
        """Report an epoch. A full training is reported as finished only after its weights are written."""
        if self._pack.stage == "full":
            self._unsaved |= {result.member: result for result in results if result.status == "finished"}
        # First the results that need no file, so that they are on record if writing the weights fails.
        self._joining.look(self._room)
        self._drop(self._reporter.report([r for r in results if r.member not in self._unsaved]))
        saved = self._save_weights()
        if saved:
            self._drop(self._reporter.report([self._unsaved.pop(number) for number in saved], saved))
        if pausing := self._reporter.pop_pausing() & set(self.members):
            self._pause(pausing)

    def _save_weights(self) -> dict[int, str]:
        """Write the weights of finished trials; return the names of the files, by number."""
        saved, start = {}, self._clock()
        for number in self._unsaved:
            trial = self._joining.trials[number]
            name = self._checkpointer.save_weights(trial, self._session.weights(number))
            if name is None:
                break
            saved[number] = name
        if self._unsaved:
            self._reporter.spend("checkpoints", self._clock() - start, list(self._unsaved))
        return saved

    def _pause(self, numbers: Collection[int]) -> None:
        """Pause members at a rung. A member that cannot be saved trains on."""
        start = self._clock()
        states = partial(self._session.states, numbers)
        saved = self._checkpointer.save(self._joining.trials, states, {})
        self._reporter.spend("checkpoints", self._clock() - start, list(numbers))
        if saved:
            self._reporter.pause(saved)
            self._drop(saved)

    def _save(self, seconds: float = float("inf")) -> None:
        """Write and record the checkpoints of all members. Start no new file after `seconds`."""
        start, members = self._clock(), self.members
        if not members:
            return
        saved = self._checkpointer.save(
            self._joining.trials, self._session.states, self._saved_epochs, seconds
        )
        self._reporter.spend("checkpoints", self._clock() - start, members)
        if saved:
            self._saved_epochs |= {number: checkpoint.epoch for number, checkpoint in saved.items()}
            self._reporter.save(saved)

    def _fill(self) -> None:
        """Let other trials take the places of members that have left."""
        if self._outbox.reachable and not self._stop.is_set():
            self._joining.look_now(self._room)
            self._reporter.wait(self._limits.fill_seconds)

    def _drop(self, numbers: Collection[int]) -> None:
        self._session.drop(numbers)
        for number in numbers:
            self._unsaved.pop(number, None)
            self._saved_epochs.pop(number, None)

    def _room(self) -> int:
        """Return the number of trials that may join."""
        if not self.width or any(trial.alone for trial in self._joining.trials.values()):
            return 0
        if self._session.phase > 0:
            return 0  # all members would wait until the new ones reach this phase
        return self._pack.width - self.width

    def _admit(self) -> None:
        """Add the trials claimed for this pack. If one was a member before, drop the old member first."""
        if not self._joining:
            return
        joining = self._joining.pop()
        self._drop(self._reporter.pop_leaving())
        self._reporter.readmit([trial.number for trial in joining])
        trials = [trial for trial in joining if trial.number in self._reporter.open]
        if not trials:
            return
        log.info("%s: joined by %s", self._pack.stage, ", ".join(str(trial.number) for trial in trials))
        self._session.join(_candidates(trials), self._load_states(trials))

    def _load_states(self, trials: Sequence[LeasedTrial]) -> dict[int, MemberState]:
        """Return the states that trials resume from, by number."""
        states = self._checkpointer.load(trials, lambda: self._trainer.task.new_pack([0]).weights)
        self._saved_epochs |= {
            trial.number: trial.checkpoint.epoch
            for trial in trials
            if trial.checkpoint is not None and trial.number in states
        }
        return states


def _candidates(trials: Iterable[LeasedTrial]) -> dict[int, Candidate]:
    return {trial.number: Candidate(with_defaults(trial.point), trial.seed) for trial in trials}
