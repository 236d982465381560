"""Write what a pack reports into the database.

Everything here runs on the outbox's thread. A delivery that fails during an outage runs again from its
beginning, so every write must tolerate a second attempt.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from hpo.store import checkpoints, costs, hand_backs, leases, results
from hpo.store.checkpoints import Checkpoint
from hpo.store.results import TrialOutcome
from hpo.study import lifecycle
from hpo.values.epoch import EpochResult
from hpo.worker.outcomes import Outcomes
from hpo.worker.pack_trials import PackTrials
from hpo.worker.report_target import ReportTarget

log = logging.getLogger("hpo.worker")

Seconds = Mapping[int, Mapping[str, float]]
"""Device seconds by trial id and activity."""


def _ignore(_names: Iterable[object]) -> None:
    pass


@dataclass(frozen=True, slots=True)
class FileCleanup:
    """Callbacks for files that no trial needs any more.

    `ended` takes the numbers of trials whose end is recorded, `replaced` the names of checkpoints that no
    trial resumes from.
    """

    ended: Callable[[Iterable[int]], None] = _ignore
    replaced: Callable[[Iterable[str]], None] = _ignore


NO_CLEANUP = FileCleanup()


@dataclass(frozen=True, slots=True)
class EpochReport:
    """An epoch of a pack.

    `delivery`: the number by which the database recognises `seconds` that are charged already. `weights`: by
    number, the files with the weights of finished members. `written`: the ids of the trials whose
    epoch this delivery has written, at any of its attempts.
    """

    delivery: int
    results: Sequence[EpochResult]
    weights: Mapping[int, str]
    seconds: Seconds
    written: set[int] = field(default_factory=set)


class PackWriter:
    """Writes the reports of one pack, and removes from `trials` the members that have ended or are lost."""

    def __init__(self, target: ReportTarget, trials: PackTrials, cleanup: FileCleanup) -> None:
        self._storage, self._target, self._trials, self._cleanup = target.storage, target, trials, cleanup
        self._outcomes = Outcomes(target, trials)

    def write_epoch(self, report: EpochReport) -> None:
        """Write an epoch; end members that finished, diverged or are pruned; note members that pause."""
        trial_id = self._trials.trial_id
        with self._storage.transaction() as connection:
            lost = self._trials.lost(leases.hold(connection, self._trials.leases))
            lost |= {result.member for result in report.results} - self._trials.open
            # A trial that has ended may have trained on for an epoch or two while the database was away.
            ignored = lost | self._trials.gone
            counted = [result for result in report.results if result.member not in ignored]
            finite = {trial_id(r.member): r for r in counted if r.status != "diverged"}
            target = self._target
            report.written.update(results.report(connection, finite, target.study.objective, target.worker))
            self._charge(connection, report.delivery, report.seconds)
            outcomes = self._outcomes.of_ended(connection, counted, report.weights)
            # An epoch that was on record before was judged when it was first written.
            undecided = [
                result
                for result in counted
                if result.member not in outcomes and trial_id(result.member) in report.written
            ]
            outcomes |= self._outcomes.of_pruned(connection, undecided)
            self._finish(connection, {trial_id(number): outcome for number, outcome in outcomes.items()})
        self._remove(lost, outcomes)
        self._trials.pause(
            result.member
            for result in undecided
            if result.epoch in self._outcomes.pause_epochs
            and result.member not in outcomes
            and not self._outcomes.trains_to_its_end(result.member)
        )

    def write_checkpoints(self, saved: Mapping[int, Checkpoint]) -> None:
        """Record checkpoints, by trial number."""
        self._write_checkpoints(saved, checkpoints.save)

    def write_pause(self, saved: Mapping[int, Checkpoint]) -> None:
        """Record checkpoints, and pause their trials."""
        target = self._target
        self._write_checkpoints(
            saved, lambda connection, held: checkpoints.pause(connection, held, target.worker, target.device)
        )
        self._remove(saved, ())

    def write_failure(self, numbers: Collection[int], failure: TrialOutcome) -> None:
        """End these trials with this outcome, if the pack still holds their leases."""
        failing = self._trials.leases_of(numbers)
        with self._storage.transaction() as connection:
            held = leases.hold(connection, failing.values())
            self._finish(connection, dict.fromkeys(held, failure))
        ended = [number for number, lease in failing.items() if lease.trial_id in held]
        self._remove(failing.keys() - ended, ended)
        if self._target.stage == "search":
            mark = lifecycle.stop_broken_search(self._storage, self._target.study)
            if mark is not None:
                log.error("search: stopped: %s", mark.reason)

    def write_hand_back(self, reason: str) -> None:
        """Put the open trials back into the queue, each to run alone, because their pack failed."""
        with self._storage.transaction() as connection:
            held = leases.hold(connection, self._trials.leases)
            hand_backs.hand_back(connection, held, results.storable(reason) or "")
        self._trials.release()

    def write_release(self) -> None:
        """Put the open trials back into the queue."""
        with self._storage.transaction() as connection:
            leases.release(connection, self._trials.leases)
        self._trials.release()

    def write_seconds(self, delivery: int, seconds: Seconds) -> None:
        """Charge device seconds."""
        with self._storage.transaction() as connection:
            self._charge(connection, delivery, seconds)

    def _write_checkpoints(
        self,
        saved: Mapping[int, Checkpoint],
        write: Callable[[Connection, Mapping[int, Checkpoint]], list[str]],
    ) -> None:
        trial_id = self._trials.trial_id
        with self._storage.transaction() as connection:
            held = leases.hold(connection, self._trials.leases)
            counted = {
                trial_id(number): checkpoint
                for number, checkpoint in saved.items()
                if trial_id(number) in held and number not in self._trials.gone
            }
            unused, recorded = write(connection, counted), counted
            if len(counted) < len(saved):
                # At a second attempt, another worker may have the trial and resume from this checkpoint.
                unused += [checkpoint.file for checkpoint in saved.values()]
                recorded = checkpoints.read(connection, [trial_id(number) for number in saved])
        in_use = {checkpoint.file for checkpoint in recorded.values()}
        self._cleanup.replaced([name for name in unused if name not in in_use])

    def _finish(self, connection: Connection, outcomes: Mapping[int, TrialOutcome]) -> None:
        results.finish(connection, outcomes, self._target.worker, self._target.device)

    def _charge(self, connection: Connection, delivery: int, seconds: Seconds) -> None:
        if seconds and costs.record_delivery(connection, self._target.worker, delivery):
            costs.charge(connection, seconds)

    def _remove(self, lost: Iterable[int], ended: Iterable[int]) -> None:
        self._trials.remove({*lost, *ended})
        self._cleanup.ended(ended)
