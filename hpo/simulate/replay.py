"""Replays: searches in simulated time whose trials read their curves from a table.

Each worker is a real `StudyLoop`, on a temporary Postgres. Only the training and the time are simulated.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from sqlalchemy import create_engine, text

from hpo.simulate.curve_table import CurveTable
from hpo.simulate.session import EveryFaultEnds, NoArtifacts, NoFiles, TableTrainer, nothing_beside
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_url
from hpo.store.server import start_server, stop_server
from hpo.store.workers import WorkerEntry
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.schedule import WIDTH
from hpo.study.study import Study
from hpo.values.epoch import EpochResult
from hpo.values.objective import Objective
from hpo.values.space import Point
from hpo.worker.context import WorkerContext, WorkerSettings
from hpo.worker.lease_renewal import LeaseRenewal
from hpo.worker.outbox import Outbox
from hpo.worker.overhead import OverheadClock
from hpo.worker.runtime import LoopLimits, Runtime, WorkerLimits
from hpo.worker.services import Services
from hpo.worker.steps import Done, Wait
from hpo.worker.study_loop import StudyLoop

LEASE_SECONDS = 3600.0
"""By the real clock, long enough that no lease expires during a replay."""

LIMITS = WorkerLimits(log_seconds=math.inf, loop=LoopLimits(join_seconds=math.inf))
"""No trial loses its worker in a replay, so no pack looks for lost trials."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The state of a search after one epoch of one pack.

    seconds          simulated time since the start
    device_seconds   training and evaluation, over all workers
    epochs           trained epochs of all trials
    trials           number of trials that have started
    best             point of the best completed trial in the search, None before the first
    """

    seconds: float
    device_seconds: float
    epochs: int
    trials: int
    best: Point | None


@dataclass(frozen=True, slots=True)
class Replay:
    """A finished replay. `moments` are in order of time, `promoted` are the promoted points, best first."""

    objective: Objective
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
    return Replay(study.objective, tuple(search.moments), tuple(row.point for row in promoted))


class _ImmediateOutbox(Outbox):
    """An outbox that delivers at once, because a replay has no training to delay."""

    def post(self, delivery: Callable[[], None]) -> None:
        delivery()


@dataclass
class _Worker:
    """A simulated worker. `loop` is None until the worker acts first."""

    name: str
    trainer: TableTrainer
    loop: StudyLoop | None = None


@dataclass
class _Search:
    """A discrete-event simulation. Each worker acts until an epoch takes time or no trial can be claimed."""

    storage: Storage
    study: Study
    table: CurveTable
    width: int
    moments: list[Moment] = field(default_factory=list)
    _clock: float = 0.0
    _device_seconds: float = 0.0
    _epochs: int = 0
    _left: int = 0
    _points: dict[int, Point] = field(default_factory=dict)
    _best: tuple[float, int] | None = None

    @property
    def has_completed(self) -> bool:
        """Return whether a trial has completed and can be promoted."""
        return self._best is not None

    def run(self, workers: int) -> None:
        """Simulate `workers` workers until no trial is open.

        A worker without a claimable trial waits until trials leave their packs: no lease expires here, so
        nothing else can make a claim succeed.
        """
        turns, queue, idle = count(), list[tuple[float, int, _Worker]](), deque[_Worker]()

        def resume(worker: _Worker, pause: float) -> None:
            heapq.heappush(queue, (self._clock + pause, next(turns), worker))

        for index in range(workers):
            # Names of workers are unique per storage, and several replays may share a storage.
            trainer = TableTrainer(self.study.spec, self.table, self._points)
            resume(_Worker(f"{self.study.name}-{index}", trainer), 0.0)
        while queue:
            self._clock, _, worker = heapq.heappop(queue)
            left = self._left
            if worker.loop is None:
                worker.loop = self._begin(worker, workers)
            pause = self._act(worker.loop, worker.trainer)
            if isinstance(pause, float):
                resume(worker, pause)
            elif isinstance(pause, Wait):
                idle.append(worker)
            for _ in range(min(self._left - left, len(idle))):
                resume(idle.popleft(), 0.0)

    def _begin(self, worker: _Worker, workers: int) -> StudyLoop:
        """Register a worker and return its loop."""
        LeaseRenewal(self.storage, WorkerEntry(worker.name, self.study.name, "table"), LEASE_SECONDS).renew()
        runtime = Runtime(clock=lambda: self._clock, limits=LIMITS)
        settings = WorkerSettings(
            worker.name,
            "table",
            NoArtifacts(),
            width=self.width,
            lease_seconds=LEASE_SECONDS,
            fleet=workers,
            fills=False,
            trains_full=False,
        )
        services = Services(
            worker.trainer,
            EveryFaultEnds(),
            NoFiles(),
            _ImmediateOutbox(),
            OverheadClock(runtime.clock),
            lambda function: function(),
            nothing_beside,
        )
        return StudyLoop(WorkerContext(self.storage, self.study, settings, runtime), services)

    def _act(self, loop: StudyLoop, trainer: TableTrainer) -> float | Wait | Done:
        """Take steps until an epoch is trained, and return its seconds; or return what else ends the turn."""
        while True:
            reported = trainer.take()
            step = loop.step()
            if reported:
                self._count(reported, trainer.members)
            if trainer.unreported:
                return _seconds(trainer.unreported)
            if isinstance(step, Done) or (isinstance(step, Wait) and not step.for_delivery):
                return step

    def _count(self, results: Sequence[EpochResult], members: int) -> None:
        """Count a reported epoch, after which the pack has `members` members left."""
        self._device_seconds += _seconds(results)
        self._epochs += len(results)
        self._left += len(results) - members
        for result in results:
            if result.status == "finished":  # the rule of `promote.best_trials`
                candidate = (self.study.objective.cost_of(result.metrics), result.member)
                self._best = candidate if self._best is None else min(self._best, candidate)
        best = None if self._best is None else self._points[self._best[1]]
        self.moments.append(Moment(self._clock, self._device_seconds, self._epochs, len(self._points), best))


def _seconds(results: Sequence[EpochResult]) -> float:
    return sum(result.seconds + result.evaluation_seconds for result in results)
