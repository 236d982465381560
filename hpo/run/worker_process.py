"""One worker as this process: started by hand, or by a launcher on a lifeline."""

from __future__ import annotations

import gc
import logging
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo.errors import InputError, TrainingError
from hpo.launch.cores import cpu_quota, usable_cores
from hpo.run.lifeline import follow_launcher
from hpo.run.watchdog import Watchdog

if TYPE_CHECKING:
    from queue import SimpleQueue

    from hpo.launch.standby import Assignment
    from hpo.store.connection import Storage
    from hpo.study.study import Study
    from hpo.training.workload import Workload
    from hpo.worker.epoch_watch import EpochWatch

log = logging.getLogger("hpo.worker")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of `hpo worker`.

    `width`: the most trials in one pack, None for the default. `name`: the name in leases and logs, None for
    host and process id. `lifeline`: whether standard input is a launcher's pipe. `fleet`: the number of
    workers that the launcher starts. `standby`: whether the launcher sends device and environment later.
    """

    study: str
    device: str
    width: int | None = None
    promotes: bool = False
    name: str | None = None
    lifeline: bool = False
    fleet: int = 1
    standby: bool = False


class StandbyStopped(SystemExit):
    """SIGTERM has reached a standby. As a class of hpo, it passes through `user_code` unchanged."""


def _end_standby(*_: object) -> None:
    raise StandbyStopped


def run_worker(options: WorkerOptions) -> None:
    """Train trials of a study until none is open, or until SIGTERM.

    Raises `InputError` for a device that torch cannot use, and `TrainingError` instead if a launcher chose
    the device: another process is then worth a try. Raises `ConflictError` if the data or the network on this
    machine are not those of the study.
    """
    if options.standby:
        signal.signal(signal.SIGTERM, _end_standby)
    lines = follow_launcher() if options.lifeline else None
    if not options.lifeline and cpu_quota() is not None:
        # torch would start a thread for each core of the host, and the quota would stop them all.
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    gc.disable()  # collections during the imports would take a tenth of the start
    import socket

    from hpo.artifacts.registry import open_artifacts
    from hpo.data.dataset import OwnDataError
    from hpo.models import ModelError
    from hpo.run.artifacts import check_artifacts, check_launched_artifacts
    from hpo.run.environment import open_study
    from hpo.run.retry import until_storage_answers
    from hpo.run.workload import study_workload
    from hpo.study.schedule import WIDTH
    from hpo.training.allocator import keep_freed_memory
    from hpo.worker.context import WorkerSettings
    from hpo.worker.pack_training import PackTraining
    from hpo.worker.runtime import Runtime
    from hpo.worker.worker import Worker

    gc.freeze()
    gc.enable()

    # A user who starts a worker by hand wants to know at once that the storage is away; a launcher waits.
    settings, storage, study = (
        until_storage_answers(lambda: open_study(options.study))
        if options.lifeline
        else open_study(options.study)
    )
    check = check_launched_artifacts if options.lifeline else check_artifacts
    check(storage, study, settings)
    try:
        workload = study_workload(study, settings)
    except (OwnDataError, ModelError) as error:
        if not options.lifeline:
            raise
        raise TrainingError(str(error)) from error  # a file that the user's code reads may come back
    device = options.device
    if options.standby and lines is not None:
        storage.engine.dispose()
        assignment = _wait_for_slot(workload, lines)
        if assignment is None:
            return
        assignment.apply()
        device = assignment.device
    name = options.name or f"{socket.gethostname()}-{os.getpid()}"
    device = _usable_device(device, options.lifeline)
    worker = Worker(
        storage,
        study,
        PackTraining.rehearsed(workload, device, settings.rehearsals_path),
        WorkerSettings(
            name=name,
            device=device,
            artifacts=open_artifacts(settings, study.artifacts_name),
            programs=settings.programs_path,
            width=options.width or WIDTH,
            promotes=options.promotes,
            lease_seconds=settings.lease_seconds,
            fleet=options.fleet,
        ),
        Runtime(watch=_watch(study, name)),
    )
    keep_freed_memory()
    worker.listen_to_signals()
    if worker.run() and not options.lifeline:  # under a launcher, the launcher says so
        log.info(_nothing_to_do(storage, study))


def _wait_for_slot(workload: Workload, lines: SimpleQueue[str | None]) -> Assignment | None:
    """Load what a worker needs, and return its slot; None if the launcher is gone."""
    from hpo.launch.standby import Assignment
    from hpo.training.engines.eager import EagerEngine

    workload.rehearsal("cpu", EagerEngine()).check()
    _ = workload.mean, workload.std  # computed now, while no trial waits
    line = lines.get()
    return None if line is None else Assignment.from_line(line)


def _watch(study: Study, worker: str) -> EpochWatch:
    """Return the watch of a worker, with a watchdog if the study limits an epoch."""
    from hpo.worker.epoch_watch import EpochWatch

    minutes = study.spec.limits.epoch_minutes
    if minutes is None:
        return EpochWatch()
    return EpochWatch(heartbeat=Watchdog(study.name, worker, minutes))


def _nothing_to_do(storage: Storage, study: Study) -> str:
    from hpo.study.lifecycle import stopped

    mark = stopped(storage, study, "full")
    if mark is None:
        return f"nothing to do: study {study.name} has no open trial"
    return f"nothing to do: study {study.name}: {mark.reason}; to continue: hpo study resume {study.name}"


def _usable_device(name: str, launched: bool) -> str:
    from hpo.training.workload import usable_device

    try:
        return usable_device(name)
    except InputError as error:
        if not launched:
            raise
        raise TrainingError(str(error)) from error
