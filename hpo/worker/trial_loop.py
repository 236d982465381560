"""Train one pack, from its claim to the end of its last trial, step by step."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from hpo.errors import AwayError
from hpo.study.schedule import LeasedTrial
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult
from hpo.values.parameters import BUILT_IN
from hpo.values.stage import Stage
from hpo.values.state import SessionState
from hpo.values.vocabulary import Vocabulary
from hpo.worker.finished_weights import FinishedWeights
from hpo.worker.interruption import StopRequested
from hpo.worker.join_queue import ClaimMore, JoinQueue
from hpo.worker.outbox import Outbox
from hpo.worker.reporter import Reporter
from hpo.worker.runtime import Runtime
from hpo.worker.session import Session, Trainer
from hpo.worker.steps import AGAIN, DONE, Step, Wait
from hpo.worker.study_files import Checkpoints

log = logging.getLogger("hpo.worker")

Beside = Callable[[Callable[[], object]], AbstractContextManager[object]]
"""Return a context that calls a function periodically, on another thread in a real worker."""


@dataclass(frozen=True, slots=True)
class PackSettings:
    """Settings of one pack: its stage and its largest width.

    `fills`: queued trials take the places of members that leave. Otherwise only trials that lost their worker
    join. `vocabulary` has the defaults of parameters that the points of the trials leave out.
    """

    stage: Stage
    width: int
    fills: bool
    vocabulary: Vocabulary = BUILT_IN


@dataclass(frozen=True, slots=True)
class LoopServices:
    """The collaborators of a trial loop, besides the trainer.

    `beside`: the context of a long preparation, in which the loop looks for more trials. `on_epoch` gets the
    results of each epoch.
    """

    reporter: Reporter
    outbox: Outbox
    checkpoints: Checkpoints
    claim_more: ClaimMore
    beside: Beside
    on_epoch: Callable[[Sequence[EpochResult]], None]


class TrialLoop:
    """The loop around a `Session`: epochs, reports, checkpoints, and trials that join or leave.

    The driver calls `step` until it returns `Done`: every trial has ended, paused or lost its lease, and all
    reports are delivered. If `stop` is set, the loop saves the trials and puts them back into the queue
    first. An exception of an epoch propagates; the session is as before that epoch.

    Training an epoch and reporting it are two steps. The loop knows no thread but that of the outbox, and
    never sleeps. It waits for the outbox alone: for the answer to a report, and when it suspends the trials.
    """

    def __init__(
        self,
        trainer: Trainer,
        trials: Sequence[LeasedTrial],
        pack: PackSettings,
        services: LoopServices,
        runtime: Runtime,
    ) -> None:
        self._trainer, self._pack, self._beside = trainer, pack, services.beside
        self._reporter, self._outbox = services.reporter, services.outbox
        self._checkpoints, self._on_epoch = services.checkpoints, services.on_epoch
        self._stop, self._clock, self._limits = runtime.stop, runtime.clock, runtime.limits.loop
        self._watch = runtime.watch
        self._unsaved = FinishedWeights(services.checkpoints, services.reporter, runtime)
        self._joining = JoinQueue(services.claim_more, services.reporter, services.outbox, runtime)
        self._joining.add(trials)
        self._saved_epochs: dict[int, int] = {}  # the epoch of the last checkpoint, by number
        self._session: Session = trainer.start({})
        self._join(trials)
        self._next: Callable[[], Step] = self._prepare

    @property
    def members(self) -> list[int]:
        """The numbers of the trials in the pack."""
        return self._session.members

    @property
    def width(self) -> int:
        return len(self.members)

    def step(self) -> Step:
        """Prepare, train an epoch, report one, or retry what has failed; return what to do next."""
        try:
            return self._next()
        except StopRequested:
            self._stop.set()
            return self._end()

    def suspend(self) -> None:
        """Save the trials as of their last whole epoch, and put them back into the queue."""
        self._save(self._limits.suspend_seconds)
        self._reporter.release()
        self._outbox.wait(self._limits.release_seconds)

    def hand_back(self, reason: str) -> None:
        """Save the trials as `suspend` does, and put them back into the queue, each to run alone.

        The code of a network that has just raised may raise again while it is saved. Older checkpoints count
        then.
        """
        try:
            self._save(self._limits.suspend_seconds)
        except Exception:
            log.exception("%s: the trials are not saved", self._pack.stage)
        self._reporter.hand_back(reason)
        self._outbox.wait(self._limits.release_seconds)

    # The steps

    def _prepare(self) -> Step:
        with self._beside(self._look):
            self._trainer.prepare()
        return self._then(self._train)

    def _train(self) -> Step:
        """Train an epoch, or find out what a pack without members waits for."""
        if self._stop.is_set():
            return self._end()
        self._admit()
        if self.members:
            with self._watch.training():
                width, results = self.width, self._session.epoch()
            return self._then(partial(self._report_epoch, results, width))
        if self._unsaved:
            return self._then(self._retry, Wait(self._limits.retry_seconds))
        return self._then(self._finish, Wait(self._limits.retry_seconds, for_delivery=True))

    def _report_epoch(self, results: Sequence[EpochResult], width: int) -> Step:
        """Report an epoch of `width` members, and fill the places of those that leave."""
        self._on_epoch(results)
        self._report(results)
        may_fill = self._pack.fills and self._outbox.reachable and not self._stop.is_set()
        if may_fill and 0 < self.width < width:
            self._joining.look_now(self._room)
            filled = partial(self._filled, self._clock(), list(self._reporter.open))
            return self._then(filled, Wait(self._limits.fill_seconds, for_delivery=True))
        self._save_if_due()
        return self._then(self._train)

    def _filled(self, start: float, waited: Sequence[int]) -> Step:
        """Charge the wait since `start` to the trials that were open then."""
        self._reporter.spend("database", self._clock() - start, waited)
        self._save_if_due()
        return self._then(self._train)

    def _retry(self) -> Step:
        self._report([])
        return self._then(self._train)

    def _finish(self) -> Step:
        if self._outbox.is_delivered and not self._joining:
            return self._end()
        return self._then(self._train)

    def _then(self, following: Callable[[], Step], step: Step = AGAIN) -> Step:
        self._next = following
        return step

    def _end(self) -> Step:
        if self._stop.is_set():
            self.suspend()
        return DONE

    # Their parts

    def _report(self, results: Sequence[EpochResult]) -> None:
        """Report an epoch. A full training is reported as finished only after its weights are written."""
        if self._pack.stage == "full":
            self._unsaved.add(results)
        # First the results that need no file, so that they are on record if writing the weights fails.
        self._look()
        self._drop(self._reporter.report([r for r in results if r.member not in self._unsaved]))
        saved = self._unsaved.save(self._joining.trials, self._session.weights)
        if self._unsaved.is_stuck:
            self._give_up()
        if saved:
            self._drop(self._reporter.report(self._unsaved.pop(saved), saved))
        if pausing := self._reporter.pop_pausing() & set(self.members):
            self._pause(pausing)

    def _give_up(self) -> None:
        """Hand the trials back, because finished models cannot be saved here. Raises `AwayError`."""
        self.suspend()
        raise AwayError(
            f"{self._pack.stage}: {self._unsaved.describe()}; they are handed back, and this worker ends"
        )

    def _pause(self, numbers: Collection[int]) -> None:
        """Pause members at a rung. A member that cannot be saved trains on."""
        start = self._clock()
        states = partial(self._session.states, numbers)
        saved = self._checkpoints.save(self._joining.trials, states, {})
        self._reporter.spend("checkpoints", self._clock() - start, list(numbers))
        if saved:
            self._reporter.pause(saved)
            self._drop(saved)

    def _save_if_due(self) -> None:
        # A checkpoint counts once the database has its name, so none is written while the database is away.
        if self._checkpoints.is_due and self._outbox.reachable and not self._stop.is_set():
            self._save()

    def _save(self, seconds: float = float("inf")) -> None:
        """Write and record the checkpoints of all members. Start no new file after `seconds`."""
        start, members = self._clock(), self.members
        if not members:
            return
        saved = self._checkpoints.save(
            self._joining.trials, self._session.states, self._saved_epochs, seconds
        )
        self._reporter.spend("checkpoints", self._clock() - start, members)
        if saved:
            self._saved_epochs |= {number: checkpoint.epoch for number, checkpoint in saved.items()}
            self._reporter.save(saved)

    def _drop(self, numbers: Collection[int]) -> None:
        self._session.drop(numbers)
        self._unsaved.drop(numbers)
        for number in numbers:
            self._saved_epochs.pop(number, None)

    def _look(self) -> None:
        """Look for trials that may join, if it is time."""
        self._joining.look(self._room)

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
        self._join(trials)

    def _join(self, trials: Sequence[LeasedTrial]) -> None:
        states = self._load_states(trials)
        with self._watch.training():  # the network's own code builds the members
            self._session.join(_candidates(trials, self._pack.vocabulary), states)

    def _load_states(self, trials: Sequence[LeasedTrial]) -> Mapping[int, SessionState]:
        """Return the states that trials resume from, by number."""
        states = self._checkpoints.load(trials, self._session.check)
        self._saved_epochs |= {
            trial.number: trial.checkpoint.epoch
            for trial in trials
            if trial.checkpoint is not None and trial.number in states
        }
        return states


def _candidates(trials: Iterable[LeasedTrial], vocabulary: Vocabulary) -> dict[int, Candidate]:
    return {
        trial.number: Candidate(vocabulary.with_defaults(trial.point), trial.seed, trial.limits)
        for trial in trials
    }
