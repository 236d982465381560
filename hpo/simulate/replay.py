"""A search whose trainings are read from a table of curves: the real claim, sampler, pruner and promotion, on
a Postgres of its own, in simulated time."""

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
"""Of the real clock, by which leases end: nothing is to be lost while a replay runs."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a search stands after a pack's epoch.

    `seconds`: simulated, since its begin; `device_seconds`: those that its workers trained and evaluated;
    `epochs`: of all candidates together; `trials`: that have begun; `best`: the point of the best of
    those that completed, by the loss that the search saw, None while there is none.
    """

    seconds: float
    device_seconds: float
    epochs: int
    trials: int
    best: Point | None


@dataclass(frozen=True, slots=True)
class Replay:
    """`moments`: in the order of time; `promoted`: the points that were chosen in the end, best first."""

    moments: tuple[Moment, ...]
    promoted: tuple[Point, ...]


@contextmanager
def scratch_storage() -> Iterator[Storage]:
    """A storage that is gone afterwards: nothing in it must last, so it waits for no disk."""
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


def replay(
    storage: Storage, spec: StudySpec, table: CurveTable, workers: int = 1, width: int = WIDTH
) -> Replay:
    """Carries out the search of `spec` with so many simulated workers, and packs of at most `width`.

    Members of a pack take turns on their worker's device, as on a CPU, and the database takes no time. The
    table must have been checked against the spec. `storage` is a scratch one: the study stays there.
    """
    study = create(storage, spec.model_copy(update={"name": f"replay-{uuid4().hex[:12]}"}), "replay").study
    search = _Search(storage, study, table, width)
    search.run(workers)
    promoted = promote(storage, study).chosen if search.has_completed else ()
    return Replay(tuple(search.moments), tuple(row.point for row in promoted))


class _AtOnce(Outbox):
    """Delivers when it is told: nobody trains meanwhile."""

    def post(self, delivery: Callable[[], None]) -> None:
        delivery()


@dataclass
class _Search:
    """A discrete-event simulation: each worker is an iterator over the seconds until it acts again."""

    storage: Storage
    study: Study
    table: CurveTable
    width: int
    moments: list[Moment] = field(default_factory=list)
    _clock: float = 0.0
    _device_seconds: float = 0.0
    _epochs: int = 0
    _under_way: int = 0
    _left: int = 0
    _numbers: set[int] = field(default_factory=set)
    _best: tuple[float, int, Point] | None = None

    @property
    def has_completed(self) -> bool:
        """Whether any trial has, and so can be promoted."""
        return self._best is not None

    def run(self, workers: int) -> None:
        turns, queue = count(), list[tuple[float, int, Iterator[float | None]]]()
        idle = deque[Iterator[float | None]]()

        def resume(worker: Iterator[float | None], pause: float) -> None:
            heapq.heappush(queue, (self._clock + pause, next(turns), worker))

        for place in range(workers):
            # Others may replay on the same storage at this moment, and names of workers are for all studies.
            resume(self._serve(f"{self.study.name}-{place}", workers), 0.0)
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
        """As `Worker.run` does. The pause is None where it is until others have left their packs: no trial is
        ever lost, so only then is there something else to be given."""
        LeaseRenewal(self.storage, WorkerEntry(name, self.study.name, "table"), LEASE_SECONDS).renew()
        while True:
            request = ClaimRequest(
                stage="search", worker=name, width=self.width, lease_seconds=LEASE_SECONDS, fleet=workers
            )
            trials = claim(self.storage, self.study, request)
            if trials:
                yield from self._train(name, trials)
            elif self._under_way:
                yield None
            else:
                return

    def _train(self, name: str, trials: list[LeasedTrial]) -> Iterator[float]:
        """As `TrialLoop.run` does."""
        attributes = {"worker": name, "device": "table"}
        reporter = Reporter(
            ReportTarget(self.storage, self.study, "search", attributes), _AtOnce(), clock=lambda: self._clock
        )
        reporter.add(trials)
        self._under_way += len(trials)
        self._numbers |= {trial.number for trial in trials}
        runs = {trial.number: self.table.run(trial.point, trial.seed) for trial in trials}
        points = {trial.number: trial.point for trial in trials}
        members = {t.number: 0 if t.checkpoint is None else t.checkpoint.epoch for t in trials}
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
            self._under_way -= len(leaving)
            self._left += len(leaving)
            for result in results:
                if result.status == "finished":
                    self._finish(result, points[result.member])
            best = None if self._best is None else self._best[2]
            self.moments.append(
                Moment(self._clock, self._device_seconds, self._epochs, len(self._numbers), best)
            )
            members = {number: epoch for number, epoch in members.items() if number not in leaving}
        reporter.close()

    def _finish(self, result: EpochResult, point: Point) -> None:
        """The rule of `promotion.best_of`."""
        mine = (result.validation_loss, result.member, point)
        if self._best is None or mine[:2] < self._best[:2]:
            self._best = mine

    def _result(self, number: int, run: Run, epoch: int) -> EpochResult:
        measured = run[epoch - 1]
        last = epoch == self.study.spec.search.epochs
        return EpochResult(
            member=number,
            epoch=epoch,
            phase=0,
            train_loss=measured.train_loss,
            validation_loss=measured.validation_loss,
            validation_accuracy=measured.validation_accuracy,
            seconds=measured.seconds,
            evaluation_seconds=measured.evaluation_seconds,
            status="diverged" if not measured.is_finite else "finished" if last else "training",
            kept_epoch=epoch,
        )
