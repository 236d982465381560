"""Report the epochs of a pack to the database, and learn which members have to leave."""

import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from optuna.trial import TrialState

from hpo.errors import message_of
from hpo.functions.failures import FunctionFailure
from hpo.store.checkpoints import Checkpoint
from hpo.store.leases import Lease
from hpo.store.results import TrialOutcome
from hpo.study.schedule import LeasedTrial
from hpo.values.epoch import EpochResult
from hpo.worker.outbox import Outbox
from hpo.worker.pack_trials import PackTrials
from hpo.worker.pack_writer import NO_CLEANUP, EpochReport, FileCleanup, PackWriter
from hpo.worker.report_target import ReportTarget

ANSWER_SECONDS = 2.0
"""How long training waits for the answer to an epoch. Most answers come within milliseconds. Without the wait
a pruned member would train one more epoch. While the storage is away, training does not wait."""


def describe(error: BaseException) -> str:
    """Return the kind of an error and its message. The failure of a function says both."""
    return (
        str(error) if isinstance(error, FunctionFailure) else f"{type(error).__name__}: {message_of(error)}"
    )


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error; of the failure of a function, that in its process, or none."""
    if isinstance(error, FunctionFailure):
        return error.trace
    return "".join(traceback.format_exception(error))


class Reporter:
    """The database side of one pack of leased trials.

    Reports go out in order through `outbox`, and may be undelivered when a method returns.
    """

    def __init__(
        self,
        target: ReportTarget,
        outbox: Outbox,
        cleanup: FileCleanup = NO_CLEANUP,
        clock: Callable[[], float] = time.perf_counter,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._outbox, self._clock = outbox, clock
        self._answer_seconds = answer_seconds
        self._trials = PackTrials()
        self._writer = PackWriter(target, self._trials, cleanup)
        self._uncharged: dict[int, dict[str, float]] = {}
        self.charged = 0.0
        """Sum of the device seconds given to `spend`."""

    @property
    def leases(self) -> tuple[Lease, ...]:
        """The leases of the open trials, by the database's last answer."""
        return self._trials.leases

    @property
    def open(self) -> frozenset[int]:
        """The numbers of the open trials, by the database's last answer."""
        return self._trials.open

    @property
    def active(self) -> frozenset[int]:
        """The numbers of the open trials, except those that left the pack and have not rejoined yet."""
        return self._trials.active

    def add(self, trials: Iterable[LeasedTrial]) -> None:
        """Add trials; for a trial already here, replace its lease.

        Call it before the first post to the outbox, or on the outbox's thread.
        """
        self._trials.add(trials)

    def report(self, results: Sequence[EpochResult], weights: Mapping[int, str] | None = None) -> set[int]:
        """Report an epoch, and return the numbers of the members that have to leave the pack.

        A member leaves when its trial has ended or paused, or its lease is lost. Finished, diverged and
        pruned trials end with this report. Nothing is written for a lost trial. `weights` are the files with
        the weights of finished members, by number.
        """
        for result in results:
            self.spend("training", result.seconds, [result.member])
            self.spend("evaluation", result.evaluation_seconds, [result.member])
        delivery = self._outbox.next_number()
        report = EpochReport(delivery, list(results), dict(weights or {}), self._take_uncharged())
        self._outbox.post(partial(self._writer.write_epoch, report))
        self.flush(self._answer_seconds)
        return self.pop_leaving()

    def readmit(self, numbers: Collection[int]) -> None:
        """Accept results again from members that left and rejoined."""
        self._outbox.post(partial(self._trials.readmit, numbers))

    def pop_leaving(self) -> set[int]:
        """Return the numbers of the members that have to leave the pack, each once."""
        return self._trials.pop_leaving()

    def pop_pausing(self) -> set[int]:
        """Return the numbers of the members to save and pause at a rung, each once."""
        return self._trials.pop_pausing()

    def pause(self, saved: Mapping[int, Checkpoint]) -> None:
        """Pause trials, by number, at these checkpoints. Their members leave the pack."""
        self._outbox.post(partial(self._writer.write_pause, dict(saved)))

    def save(self, saved: Mapping[int, Checkpoint]) -> None:
        """Record the checkpoints of trials, by number, after their epochs were reported."""
        self._outbox.post(partial(self._writer.write_checkpoints, dict(saved)))

    def fail(self, error: BaseException, numbers: Collection[int], reason: str | None = None) -> None:
        """End these trials as failed, with the traceback, and release the other open trials."""
        failure = TrialOutcome(
            state=TrialState.FAIL,
            reason=reason or describe(error),
            traceback=traceback_of(error),
        )
        self._outbox.post(partial(self._writer.write_failure, frozenset(numbers), failure))
        self.release()

    def hand_back(self, reason: str) -> None:
        """Put the open trials of a pack that failed back into the queue, each to run alone."""
        self._outbox.post(partial(self._writer.write_hand_back, reason))

    def release(self) -> None:
        """Put the open trials of the pack back into the queue."""
        self._outbox.post(self._writer.write_release)

    def spend(self, activity: str, seconds: float, numbers: Sequence[int]) -> None:
        """Split device `seconds` evenly over these members; the next report or `close` charges them."""
        if not seconds:
            return
        self.charged += seconds
        for number in numbers:
            activities = self._uncharged.setdefault(number, {})
            activities[activity] = activities.get(activity, 0.0) + seconds / len(numbers)

    def flush(self, seconds: float) -> bool:
        """Wait for all deliveries, but not while the storage is away; return whether all are delivered.

        A storage that gives no answer within `seconds` counts as away. Charges the wait to the trials that
        are open at its start.
        """
        start, numbers = self._clock(), list(self._trials.open)
        delivered = self._outbox.flush(seconds)
        if numbers:
            self.spend("database", self._clock() - start, numbers)
        return delivered

    def close(self) -> None:
        """Charge the device seconds since the last report."""
        if seconds := self._take_uncharged():
            delivery = self._outbox.next_number()
            self._outbox.post(partial(self._writer.write_seconds, delivery, seconds))

    def _take_uncharged(self) -> dict[int, dict[str, float]]:
        """Return the uncharged seconds by trial id, each once."""
        uncharged, self._uncharged = self._uncharged, {}
        return {self._trials.trial_id(number): activities for number, activities in uncharged.items()}
