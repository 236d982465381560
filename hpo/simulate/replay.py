"""Replays: searches in simulated time whose trials read their curves from a table.

Claim, sampler, pruner and promotion are the real ones, on a temporary Postgres.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from sqlalchemy import create_engine, text

from hpo.simulate.curve_table import CurveTable, Run
from hpo.spec.study_spec import StudySpec
from hpo.store.checkpoints import Checkpoint
from hpo.store.connection import Storage, open_url
from hpo.store.server import start_server, stop_server
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.schedule import WIDTH, ClaimRequest, LeasedTrial, claim
from hpo.study.study import Study
from hpo.values.epoch import EpochResult
from hpo.values.space import Point
from hpo.worker.lease_renewal import LeaseRenewal, WorkerEntry
from hpo.worker.outbox import Outbox
from hpo.worker.report_target import ReportTarget
from hpo.worker.reporter import Reporter

LEASE_SECONDS = 3600.0
"""By the real clock, long enough that no lease expires during a replay."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The state of a search after one epoch of one pack.

    seconds          simulated time since the start
    device_seconds   training and evaluation, over all workers
    epochs           trained epochs of all trials
    trials           number of trials that have started
    best             point of the completed trial with the smallest loss in the search, None before the first
    """

    seconds: float
    device_seconds: float
    epochs: int
    trials: int
    best: Point | None


@dataclass(frozen=True, slots=True)
class Replay:
    """A finished replay. `moments` are in order of time, `promoted` are the promoted points, best first."""

    moments: tuple[Moment, ...]
    promoted: tuple[Point, ...]


@contextmanager
def scratch_storage() -> Iterator[Storage]:
    """Open a temporary storage. Its server does not sync to disk, because nothing in it must survive."""
    with TemporaryDirectory(prefix="hpo-replay-", ignore_cleanup_errors=True) as folder:
        home = Path(folder, "postgres")
        url = start_server(home)
        try:
            engine = create_engine(url, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                    connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
                connection.execute(text("SELECT pg_reload_conf()"))
            engine.dispose()
            storage = open_url(url)
            yield storage
            storage.engine.dispose()
        finally:
            stop_server(home)


def replay_search(
    storage: Storage, spec: StudySpec, table: CurveTable, workers: int = 1, width: int = WIDTH
) -> Replay:
    """Replay the search of `spec` with simulated workers and packs of at most `width` trials.

    Members of a pack take turns on the device of their worker, as on a CPU. The database takes no simulated
    time. Check the table against the spec first (`CurveTable.check`). The study stays in `storage`.
    """
    study = create(storage, spec.model_copy(update={"name": f"replay-{uuid4().hex[:12]}"}), "replay").study
    search = _Search(storage, study, table, width)
    search.run(workers)
    promoted = promote(storage, study).chosen if search.has_completed else ()
    return Replay(tuple(search.moments), tuple(row.point for row in promoted))


class _ImmediateOutbox(Outbox):
    """An outbox that delivers at once, because a replay has no training to delay."""

    def post(self, delivery: Callable[[], None]) -> None:
        delivery()


@dataclass
class _Search:
    """A discrete-event simulation.

    Each worker is an iterator over pauses: the seconds until it acts again, or None to wait until trials
    leave their packs.
    """

    storage: Storage
    study: Study
    table: CurveTable
    width: int
    moments: list[Moment] = field(default_factory=list)
    _clock: float = 0.0
    _device_seconds: float = 0.0
    _epochs: int = 0
    _running: int = 0
    _left: int = 0
    _started: set[int] = field(default_factory=set)
    _best: tuple[float, int, Point] | None = None

    @property
    def has_completed(self) -> bool:
        """Return whether a trial has completed and can be promoted."""
        return self._best is not None

    def run(self, workers: int) -> None:
        """Simulate `workers` workers until no trial is open."""
        turns, queue = count(), list[tuple[float, int, Iterator[float | None]]]()
        idle = deque[Iterator[float | None]]()

        def resume(worker: Iterator[float | None], pause: float) -> None:
            heapq.heappush(queue, (self._clock + pause, next(turns), worker))

        for index in range(workers):
            # Names of workers are unique per storage, and several replays may share a storage.
            resume(self._serve(f"{self.study.name}-{index}", workers), 0.0)
        while queue:
            self._clock, _, worker = heapq.heappop(queue)
            left = self._left
            for pause in worker:
                if pause is None:
                    idle.append(worker)
                else:
                    resume(worker, pause)
                break
            for _ in range(min(self._left - left, len(idle))):
                resume(idle.popleft(), 0.0)

    def _serve(self, name: str, workers: int) -> Iterator[float | None]:
        """Claim and train packs as `Worker.run` does.

        Without a claimable trial the pause is None: no lease expires here, so a claim can only succeed after
        a trial has left its pack.
        """
        LeaseRenewal(self.storage, WorkerEntry(name, self.study.name, "table"), LEASE_SECONDS).renew()
        while True:
            request = ClaimRequest(
                stage="search", worker=name, width=self.width, lease_seconds=LEASE_SECONDS, fleet=workers
            )
            trials = claim(self.storage, self.study, request)
            if trials:
                yield from self._train(name, trials)
            elif self._running:
                yield None
            else:
                return

    def _train(self, name: str, trials: list[LeasedTrial]) -> Iterator[float]:
        """Train a pack as `TrialLoop.run` does."""
        reporter = Reporter(
            ReportTarget(self.storage, self.study, "search", name, "table"),
            _ImmediateOutbox(),
            clock=lambda: self._clock,
        )
        reporter.add(trials)
        self._running += len(trials)
        self._started |= {trial.number for trial in trials}
        runs = {trial.number: self.table.run(trial.point, trial.seed) for trial in trials}
        points = {trial.number: trial.point for trial in trials}
        members = {
            trial.number: 0 if trial.checkpoint is None else trial.checkpoint.epoch for trial in trials
        }
        while members:
            members = {number: epoch + 1 for number, epoch in members.items()}
            results = [self._result(number, runs[number], epoch) for number, epoch in members.items()]
            seconds = sum(result.seconds + result.evaluation_seconds for result in results)
            yield seconds
            leaving = reporter.report(results)
            self._device_seconds += seconds
            self._epochs += len(results)
            if pausing := reporter.pop_pausing():
                reporter.pause({number: Checkpoint(members[number], "nothing") for number in pausing})
                leaving |= reporter.pop_leaving()
            self._running -= len(leaving)
            self._left += len(leaving)
            for result in results:
                if result.status == "finished":
                    self._finish(result, points[result.member])
            best = None if self._best is None else self._best[2]
            self.moments.append(
                Moment(self._clock, self._device_seconds, self._epochs, len(self._started), best)
            )
            members = {number: epoch for number, epoch in members.items() if number not in leaving}
        reporter.close()

    def _finish(self, result: EpochResult, point: Point) -> None:
        """Update the best trial by the rule of `promote.best_trials`."""
        candidate = (result.objective, result.member, point)
        if self._best is None or candidate[:2] < self._best[:2]:
            self._best = candidate

    def _result(self, number: int, run: Run, epoch: int) -> EpochResult:
        measured = run[epoch - 1]
        last = epoch == self.study.spec.search.epochs
        return EpochResult(
            member=number,
            epoch=epoch,
            metrics=measured.metrics,
            seconds=measured.seconds,
            evaluation_seconds=measured.evaluation_seconds,
            status="diverged" if not measured.is_finite else "finished" if last else "training",
            kept_epoch=epoch,
        )
