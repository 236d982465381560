"""A worker's work on one pack, from its claim to the end of its last trial."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from hpo.study.schedule import LeasedTrial
from hpo.training.member import MemberState
from hpo.training.pack import Candidate
from hpo.training.trainer import PackSession, Trainer
from hpo.values.epoch import EpochResult
from hpo.values.stage import Stage
from hpo.worker.checkpointer import RETRY_SECONDS, Checkpointer
from hpo.worker.checkpoints import CheckpointError
from hpo.worker.outbox import Outbox
from hpo.worker.reporter import Reporter
from hpo.worker.trial_files import TrialFiles

log = logging.getLogger("hpo.worker")

JOIN_SECONDS = 1.0
"""How often a pack with room looks for trials that could join it."""

FILL_SECONDS = 0.5
"""How long a pack that members have left waits for those who are to fill it, before its next epoch."""

PARK_SECONDS, RELEASE_SECONDS = 4.0, 3.0
"""How long a worker that is told to stop may write checkpoints, and wait for the database. What is not saved
by then goes on from an older checkpoint, what is not released is free when its lease ends."""


class ToldToStop(BaseException):
    """Raised in the training loop when the process was told to stop."""


class ClaimMore(Protocol):
    def __call__(self, width: int) -> list[LeasedTrial]:
        """Trials of this pack's stage and batch size that are to join it, at most so many."""


class TrialLoop:
    """The loop around a `PackSession`: epochs, reports, checkpoints, and what to do about what others did.

    `fills`: whether a member that leaves is worth waiting for another one, which `claim_more` gives.

    It ends when all trials have ended and the database knows, or when `stop` is set: then the trials are
    saved and handed back. What an epoch raises goes through, with the training as it was before that epoch.
    """

    def __init__(
        self,
        trainer: Trainer,
        trials: Sequence[LeasedTrial],
        stage: Stage,
        reporter: Reporter,
        outbox: Outbox,
        artifacts: TrialFiles,
        checkpointer: Checkpointer,
        claim_more: ClaimMore,
        width: int,
        fills: bool,
        stop: threading.Event,
        clock: Callable[[], float],
        tell: Callable[[Sequence[EpochResult]], None],
    ) -> None:
        self._trainer, self._stage, self._reporter, self._outbox = trainer, stage, reporter, outbox
        self._artifacts, self._checkpointer, self._claim_more = artifacts, checkpointer, claim_more
        self._width, self._fills, self._stop, self._clock, self._tell = width, fills, stop, clock, tell
        self._trials = {trial.number: trial for trial in trials}
        self._durable: dict[int, int] = {}  # the epoch of the last checkpoint, by number
        self._unsaved: dict[int, EpochResult] = {}  # finished, and their weights are not written yet
        self._joining: deque[LeasedTrial] = deque()  # claimed on the outbox's thread
        self._next_look, self._is_looking = clock() + JOIN_SECONDS, False
        self._training: PackSession = trainer.start(_candidates(trials), self._states(trials))

    @property
    def members(self) -> list[int]:
        """The numbers of the trials in the training."""
        return self._training.members

    @property
    def width(self) -> int:
        """How many members it has."""
        return len(self.members)

    def run(self) -> None:
        try:
            with self._looking():
                self._trainer.prepare()
            while not self._stop.is_set() and self._step():
                pass
        except ToldToStop:
            self._stop.set()
        if self._stop.is_set():
            self.suspend()

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Looks for trials that could join while this thread is busy with something else than epochs."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(JOIN_SECONDS):
                self._look_for_more()

        looker = threading.Thread(target=look, name="look for more trials", daemon=True)
        looker.start()
        try:
            yield
        finally:
            over.set()
            looker.join()

    def suspend(self) -> None:
        """Saves the trials, as of their last whole epoch, and hands them back."""
        self._save(PARK_SECONDS)
        self._reporter.release()
        self._outbox.wait(RELEASE_SECONDS)

    def _step(self) -> bool:
        """Whether there is more to do."""
        self._take_in()
        if self._training.members:
            width, results = self.width, self._training.epoch()
            self._tell(results)
            self._report(results)
            if self._fills and 0 < self.width < width:
                self._fill()
            # A checkpoint counts once the database knows it, so there is no use in one while it is away.
            if self._checkpointer.is_due and self._outbox.reachable and not self._stop.is_set():
                self._save()
            return True
        if self._unsaved:
            self._stop.wait(RETRY_SECONDS)
            self._report([])
            return True
        return not self._outbox.wait(RETRY_SECONDS) or bool(self._joining)

    def _report(self, results: Sequence[EpochResult]) -> None:
        """A trial in full training ends only once its weights are safe."""
        if self._stage == "full":
            self._unsaved |= {result.member: result for result in results if result.status == "finished"}
        # First what can be told at once: if something goes wrong with the weights, it is on record.
        self._look_for_more()
        self._drop(self._reporter.report([r for r in results if r.member not in self._unsaved]))
        saved, start = {}, self._clock()
        for number in self._unsaved:
            name = self._checkpointer.save_weights(self._trials[number], self._training.weights(number))
            if name is None:
                break
            saved[number] = {"weights": name}
        if self._unsaved:
            self._reporter.spend("checkpoints", self._clock() - start, list(self._unsaved))
        if saved:
            self._drop(self._reporter.report([self._unsaved.pop(number) for number in saved], saved))
        if pausing := self._reporter.pausing() & set(self.members):
            self._pause(pausing)

    def _pause(self, numbers: Collection[int]) -> None:
        """Members that have come to a rung leave with a checkpoint; one that cannot be saved trains on."""
        start = self._clock()
        saved = self._checkpointer.save(self._trials, partial(self._training.states, numbers), {})
        self._reporter.spend("checkpoints", self._clock() - start, list(numbers))
        if saved:
            self._reporter.pause(saved)
            self._drop(saved)

    def _fill(self) -> None:
        """Lets others take the room of those who have left."""
        if self._outbox.reachable and not self._stop.is_set():
            self._next_look = self._clock()
            self._look_for_more()
            self._reporter.wait(FILL_SECONDS)

    def _drop(self, leaving: Collection[int]) -> None:
        self._training.drop(leaving)
        for number in leaving:
            self._unsaved.pop(number, None)
            self._durable.pop(number, None)

    def _save(self, seconds: float = float("inf")) -> None:
        start, members = self._clock(), self._training.members
        if not members:
            return
        saved = self._checkpointer.save(self._trials, self._training.states, self._durable, seconds)
        self._reporter.spend("checkpoints", self._clock() - start, members)
        if saved:
            self._durable |= {number: one.epoch for number, one in saved.items()}
            self._reporter.save(saved)

    def _look_for_more(self) -> None:
        # `_trials` changes while a look is under way, so that comes first.
        if self._is_looking or self._joining or self._clock() < self._next_look:
            return
        room = self._width - self.width
        if room <= 0 or not self.width or any(trial.alone for trial in self._trials.values()):
            return
        if self._training.phase > 0:
            return  # all would wait until those who join have come as far
        self._next_look, self._is_looking = self._clock() + JOIN_SECONDS, True

        def claim() -> None:
            if self._stop.is_set():
                return  # they would only have to be handed back
            trials = self._claim_more(room)
            # This worker itself may have been away for too long: then its own trials are among the lost ones,
            # and a member that is here still has lost nothing but its lease.
            here = self._reporter.here
            self._reporter.add(trials)
            self._trials |= {trial.number: trial for trial in trials}
            self._joining.extend(trial for trial in trials if trial.number not in here)
            self._is_looking = False

        self._outbox.post(claim)

    def _take_in(self) -> None:
        """Those who have joined; what they were here before leaves first."""
        if not self._joining:
            return
        joining = [self._joining.popleft() for _ in range(len(self._joining))]
        self._drop(self._reporter.leaving())
        self._reporter.readmit([trial.number for trial in joining])
        trials = [trial for trial in joining if trial.number in self._reporter.open]
        if not trials:
            return
        log.info("%s: joined by %s", self._stage, ", ".join(str(trial.number) for trial in trials))
        self._training.join(_candidates(trials), self._states(trials))

    def _states(self, trials: Iterable[LeasedTrial]) -> dict[int, MemberState]:
        """What those with a checkpoint go on from."""
        saved = {trial.number: trial.checkpoint for trial in trials if trial.checkpoint is not None}
        if not saved:
            return {}
        like = self._trainer.new_pack([0]).weights
        states = {}
        for number, checkpoint in saved.items():
            try:
                states[number] = self._artifacts.load_checkpoint(checkpoint.file, like)
            except CheckpointError as error:
                log.warning("trial %d starts over, its checkpoint does not load: %s", number, error)
                if not isinstance(error.__cause__, OSError):  # otherwise nothing is known about what is in it
                    self._artifacts.mark_damaged(checkpoint.file)
            else:
                self._durable[number] = checkpoint.epoch
        return states


def _candidates(trials: Iterable[LeasedTrial]) -> dict[int, Candidate]:
    return {
        trial.number: Candidate(
            trial.point["lr"], trial.point["momentum"], trial.point["weight_decay"], trial.seed
        )
        for trial in trials
    }
