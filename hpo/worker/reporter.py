"""What a pack tells the database after each epoch, and what it learns from it: who is pruned, who is lost."""

import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.pruners.base import Peer
from hpo.search.pruners.none import NoPruner
from hpo.store import checkpoints, costs, leases, results
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage
from hpo.store.leases import Lease
from hpo.store.results import TrialOutcome
from hpo.study.schedule import LeasedTrial
from hpo.study.study import Study
from hpo.values.epoch import EpochResult
from hpo.values.stage import Stage
from hpo.worker.outbox import Outbox

ANSWER_SECONDS = 2.0
"""How long training waits for the answer to an epoch. Most come within milliseconds, and without it a pruned
member would train an epoch too much; while the storage cannot be reached it does not wait."""

Attributes = Mapping[str, Any]


class Reporter:
    """The database side of one pack of leased trials.

    `attributes`: what is noted on each trial that ends, its "worker" among them.

    What it is told goes out in order, through `outbox`, and need not have arrived when a call returns. On the
    outbox's thread, `ended` is called with the numbers of trials that have ended, once that is written, and
    `replaced` with the names of checkpoints that nobody needs any more.
    """

    def __init__(
        self,
        storage: Storage,
        study: Study,
        stage: Stage,
        attributes: Attributes,
        outbox: Outbox,
        ended: Callable[[Iterable[int]], None] = lambda _numbers: None,
        replaced: Callable[[Iterable[str]], None] = lambda _names: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._storage, self._study_id, self._outbox, self._clock = (
            storage,
            study.study_id(stage),
            outbox,
            clock,
        )
        self._ended, self._replaced = ended, replaced
        self._pruner = study.spec.make_pruner() if stage == "search" else NoPruner()
        self._attributes, self._worker = attributes, str(attributes["worker"])
        self._leases: dict[int, Lease] = {}  # of the trials that are open as far as the database has said
        self._all: dict[int, int] = {}  # the trial ids of those that ever were in the pack, by number
        self._gone: set[int] = set()  # those whose results do not count until they are back
        self._pauses = self._pruner.pause_epochs
        self._leaving: deque[int] = deque()  # filled on the outbox's thread, emptied on the other
        self._pausing: deque[int] = deque()  # the same
        self._spent: dict[int, dict[str, float]] = {}  # device seconds that are still to be charged
        self.charged = 0.0
        """All device seconds that were noted so far."""

    @property
    def leases(self) -> tuple[Lease, ...]:
        return tuple(self._leases.values())

    @property
    def open(self) -> frozenset[int]:
        """The numbers of the trials that are open as far as the database has said."""
        return frozenset(self._leases)

    @property
    def here(self) -> frozenset[int]:
        """Those of them that are members, and not about to leave or to join."""
        return self.open - self._gone

    def add(self, trials: Iterable[LeasedTrial]) -> None:
        """Takes on more trials, or new leases: before the first post to the outbox, or on its thread."""
        for trial in trials:
            self._leases[trial.number] = trial.lease
            self._all[trial.number] = trial.lease.trial_id

    def report(
        self, results: Sequence[EpochResult], saved: Mapping[int, Attributes] | None = None
    ) -> set[int]:
        """Tells an epoch of the pack; gives the numbers of the members that are to leave it, by now.

        Those whose trial has ended, by pruning say, and those whose lease was lost: of these nothing is
        written. `saved`: the attributes that say where the weights of the finished are. Finished and diverged
        trials end here.
        """
        for result in results:
            self.spend("training", result.seconds, [result.member])
            self.spend("evaluation", result.evaluation_seconds, [result.member])
        self._outbox.post(
            partial(
                self._send,
                self._outbox.next_number(),
                list(results),
                dict(saved or {}),
                self._take_spent(),
                set(),
            )
        )
        self.settle(ANSWER_SECONDS)
        return self.leaving()

    def readmit(self, numbers: Collection[int]) -> None:
        """Members that had left are back: what is told from now on is theirs."""
        self._outbox.post(lambda: self._gone.difference_update(numbers))

    def leaving(self) -> set[int]:
        """The numbers of the members that are to leave, and were not given before."""
        return {self._leaving.popleft() for _ in range(len(self._leaving))}

    def pausing(self) -> set[int]:
        """The numbers of the members that have come to a rung, and were not given before: to be saved and
        paused."""
        return {self._pausing.popleft() for _ in range(len(self._pausing))}

    def pause(self, saved: Mapping[int, Checkpoint]) -> None:
        """Sets members aside, by number, as of these checkpoints. They leave without having ended."""
        self._outbox.post(partial(self._send_paused, dict(saved)))

    def save(self, saved: Mapping[int, Checkpoint]) -> None:
        """Tells the checkpoints of trials, by number, after the epochs they hold."""
        self._outbox.post(partial(self._send_saved, dict(saved)))

    def fail(self, error: BaseException, numbers: Collection[int], reason: str | None = None) -> None:
        """Ends these trials as failed, with the traceback; the other open ones go back into the queue."""
        attributes = {
            "reason": reason or f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error)),
            **self._attributes,
        }
        self._outbox.post(partial(self._send_failed, frozenset(numbers), attributes))
        self.release()

    def release(self) -> None:
        """Puts the open trials of the pack back into the queue."""
        self._outbox.post(self._send_released)

    def spend(self, activity: str, seconds: float, numbers: Sequence[int]) -> None:
        """Notes device seconds that were spent for these members together."""
        if not seconds:
            return
        self.charged += seconds
        for number in numbers:
            spent = self._spent.setdefault(number, {})
            spent[activity] = spent.get(activity, 0.0) + seconds / len(numbers)

    def settle(self, seconds: float) -> bool:
        """Waits for the database, at most so long; whether it knows everything. If not, it counts as away."""
        return self._timed(partial(self._outbox.settle, seconds))

    def wait(self, seconds: float) -> bool:
        """The same for what may take its time."""
        return self._timed(partial(self._outbox.wait, seconds))

    def _timed(self, wait: Callable[[], bool]) -> bool:
        start, numbers = self._clock(), list(self._leases)  # before the last of them have ended
        settled = wait()
        if numbers:
            self.spend("database", self._clock() - start, numbers)
        return settled

    def close(self) -> None:
        """Charges what was spent since the last epoch."""
        self._outbox.post(partial(self._send_spent, self._outbox.next_number(), self._take_spent()))

    def _take_spent(self) -> dict[int, dict[str, float]]:
        spent, self._spent = self._spent, {}
        return {self._all[number]: activities for number, activities in spent.items()}

    # What follows runs on the outbox's thread, and again from its beginning if the storage went away inside.

    def _send(
        self,
        delivery: int,
        reports: Sequence[EpochResult],
        saved: Mapping[int, Attributes],
        spent: Mapping[int, Mapping[str, float]],
        new: set[int],
    ) -> None:
        """`new`: the trials, by id, whose epoch this delivery has written, at a former try say."""
        with self._storage.transaction() as connection:
            held = leases.hold(connection, self._leases.values())
            lost = {number for number, lease in self._leases.items() if lease.trial_id not in held}
            lost |= {result.member for result in reports} - self._leases.keys()
            # A trial that has ended may have trained on for an epoch or two while the database was away.
            gone = lost | self._gone
            mine = [r for r in reports if r.member in self._leases and r.member not in gone]
            finite = {self._all[r.member]: r for r in mine if r.status != "diverged"}
            new |= results.report(connection, finite)
            self._charge(connection, delivery, spent)
            endings = self._endings(connection, mine, saved)
            # An epoch that was on record was judged when it came there.
            undecided = [r for r in mine if r.member not in endings and self._all[r.member] in new]
            endings |= self._pruned(connection, undecided)
            results.finish(connection, {self._all[number]: ending for number, ending in endings.items()})
        self._let_go(lost, endings)
        self._pausing.extend(
            r.member for r in undecided if r.epoch in self._pauses and r.member not in endings
        )

    def _send_saved(self, saved: Mapping[int, Checkpoint]) -> None:
        self._write_saved(saved, checkpoints.save)

    def _send_paused(self, saved: Mapping[int, Checkpoint]) -> None:
        self._write_saved(saved, partial(checkpoints.pause, attributes=self._attributes))
        self._let_go(saved, ())

    def _write_saved(
        self,
        saved: Mapping[int, Checkpoint],
        write: Callable[[Connection, Mapping[int, Checkpoint]], list[str]],
    ) -> None:
        with self._storage.transaction() as connection:
            held = leases.hold(connection, self._leases.values())
            mine = {
                self._all[number]: one
                for number, one in saved.items()
                if self._all[number] in held and number not in self._gone
            }
            unused, named = write(connection, mine), mine
            if len(mine) < len(saved):
                # This may be told a second time, when others have the trial already.
                unused += [one.file for one in saved.values()]
                named = checkpoints.read(connection, [self._all[number] for number in saved])
        in_use = {one.file for one in named.values()}
        self._replaced([name for name in unused if name not in in_use])

    def _send_failed(self, numbers: Collection[int], attributes: Attributes) -> None:
        failing = {number: lease for number, lease in self._leases.items() if number in numbers}
        with self._storage.transaction() as connection:
            held = leases.hold(connection, failing.values())
            results.finish(connection, {i: TrialOutcome(TrialState.FAIL, None, attributes) for i in held})
        ended = [number for number, lease in failing.items() if lease.trial_id in held]
        self._let_go(failing.keys() - ended, ended)

    def _send_released(self) -> None:
        with self._storage.transaction() as connection:
            leases.release(connection, self._leases.values())
        self._leases = {}

    def _send_spent(self, delivery: int, spent: Mapping[int, Mapping[str, float]]) -> None:
        with self._storage.transaction() as connection:
            self._charge(connection, delivery, spent)

    def _charge(
        self, connection: Connection, delivery: int, spent: Mapping[int, Mapping[str, float]]
    ) -> None:
        if spent and costs.record_delivery(connection, self._worker, delivery):
            costs.charge(connection, spent)

    def _let_go(self, lost: Iterable[int], ended: Iterable[int]) -> None:
        gone = {*lost, *ended}
        self._leases = {number: lease for number, lease in self._leases.items() if number not in gone}
        self._gone |= gone
        self._leaving.extend(gone)
        self._ended(ended)

    def _endings(
        self, connection: Connection, reports: Sequence[EpochResult], saved: Mapping[int, Attributes]
    ) -> dict[int, TrialOutcome]:
        """Of the members, by number, that have diverged or finished."""
        endings = {}
        for result in reports:
            if result.status == "diverged":
                reason = f"its loss was not finite in epoch {result.epoch}"
                attributes = {"reason": reason, **self._attributes}
                endings[result.member] = TrialOutcome(TrialState.FAIL, None, attributes, result.epoch - 1)
        finished = {self._all[r.member]: r for r in reports if r.status == "finished"}
        # The record counts, not the memory: an epoch that was trained twice stays as it was first told.
        kept = (
            results.epoch_metrics(connection, {i: r.kept_epoch for i, r in finished.items()})
            if finished
            else {}
        )
        for trial_id, figures in kept.items():
            result = finished[trial_id]
            noted = self._noted(figures.validation_accuracy, result.kept_epoch, result.epoch)
            attributes = {**noted, **saved.get(result.member, {})}
            endings[result.member] = TrialOutcome(
                TrialState.COMPLETE, figures.validation_loss, attributes, result.epoch
            )
        return endings

    def _pruned(self, connection: Connection, reports: Sequence[EpochResult]) -> dict[int, TrialOutcome]:
        """Every result is in the database before the first is judged, so pack mates count as peers."""
        if not self._pruner.compares_curves or not reports:
            return {}
        curves = results.curves_at(
            connection,
            self._study_id,
            {result.epoch for result in reports},
            [self._all[result.member] for result in reports],
        )
        peers = [Peer(one.number, one.losses, one.state == TrialState.COMPLETE) for one in curves.values()]
        endings = {}
        for result in reports:
            curve = curves[self._all[result.member]].losses
            others = [peer for peer in peers if peer.number != result.member]
            if self._pruner.should_prune(result.member, curve, others):
                noted = self._noted(result.validation_accuracy, result.epoch, result.epoch)
                endings[result.member] = TrialOutcome(
                    TrialState.PRUNED, result.validation_loss, noted, result.epoch
                )
        return endings

    def _noted(self, accuracy: float, kept_epoch: int, epochs: int) -> dict[str, Any]:
        return {"accuracy": accuracy, "kept_epoch": kept_epoch, "epochs": epochs, **self._attributes}
