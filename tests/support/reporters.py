"""Reporters that wait for answers however slow the machine is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hpo.store.connection import Storage
from hpo.study.schedule import LeasedTrial
from hpo.study.study import Study
from hpo.values.stage import Stage
from hpo.worker.outbox import Outbox
from hpo.worker.pack_writer import NO_CLEANUP, FileCleanup
from hpo.worker.report_target import ReportTarget
from hpo.worker.reporter import Reporter
from hpo.worker.runtime import LoopLimits, Runtime, WorkerLimits

ANSWER_SECONDS = 30.0


def target(storage: Storage, study: Study, stage: Stage = "search", worker: str = "one") -> ReportTarget:
    return ReportTarget(storage, study, stage, worker, "cpu")


def reporter(
    target: ReportTarget,
    trials: Iterable[LeasedTrial],
    outbox: Outbox,
    clock: Callable[[], float] = lambda: 0.0,
    cleanup: FileCleanup = NO_CLEANUP,
    kind: type[Reporter] = Reporter,
) -> Reporter:
    """Return the reporter of a pack of these trials."""
    made = kind(target, outbox, cleanup, clock, ANSWER_SECONDS)
    made.add(trials)
    return made


def patient_runtime() -> Runtime:
    """Return the runtime of a worker that waits for every answer."""
    return Runtime(limits=WorkerLimits(loop=LoopLimits(answer_seconds=ANSWER_SECONDS)))
