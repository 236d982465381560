"""One worker as this process: started by hand, or by a launcher on a lifeline."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo.launch.cores import cpu_quota, usable_cores
from hpo.run.lifeline import follow_launcher

if TYPE_CHECKING:
    from queue import SimpleQueue

    from hpo.launch.standby import Assignment
    from hpo.store.connection import Storage
    from hpo.study.study import Study

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


@contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage inside the block, and later on nothing that is there at its end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _end_standby(*_: object) -> None:
    raise StandbyStopped


def run_worker(options: WorkerOptions) -> None:
    """Train trials of a study until none is open, or until SIGTERM.

    Raises `InputError` for a device that torch cannot use, and `TrainingError` instead if a launcher chose
    the device: another process is then worth a try. Raises `ConflictError` if the data, the network or the
    training function on this machine are not those of the study.
    """
    if options.standby:
        signal.signal(signal.SIGTERM, _end_standby)
    lines = follow_launcher() if options.lifeline else None
    if not options.lifeline and cpu_quota() is not None:
        # torch would start a thread for each core of the host, and the quota would stop them all.
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    import socket

    with without_collections():  # they would take a tenth of the start
        from hpo.artifacts.registry import open_artifacts
        from hpo.run.artifacts import check_artifacts, check_launched_artifacts
        from hpo.run.environment import open_study
        from hpo.run.preparation import prepare
        from hpo.run.retry import until_storage_answers
        from hpo.study.schedule import WIDTH
        from hpo.worker.context import WorkerSettings
        from hpo.worker.runtime import Runtime
        from hpo.worker.worker import Worker

        # A user who starts a worker by hand wants to know at once that the storage is away; a launcher waits.
        settings, storage, study = (
            until_storage_answers(lambda: open_study(options.study))
            if options.lifeline
            else open_study(options.study)
        )
        check = check_launched_artifacts if options.lifeline else check_artifacts
        check(storage, study, settings)
        preparation = prepare(study, settings, options.lifeline)
    preparation.load()
    device = options.device
    if options.standby and lines is not None:
        storage.engine.dispose()
        preparation.warm_up()
        assignment = _wait_for_slot(lines)
        if assignment is None:
            return
        assignment.apply()
        device = assignment.device
    name = options.name or f"{socket.gethostname()}-{os.getpid()}"
    with preparation.training(device) as training:
        worker = Worker(
            storage,
            study,
            training,
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
            Runtime(watch=preparation.watch(name)),
        )
        worker.listen_to_signals()
        had_nothing_to_do = worker.run()
    if had_nothing_to_do and not options.lifeline:  # under a launcher, the launcher says so
        log.info(_nothing_to_do(storage, study))


def _wait_for_slot(lines: SimpleQueue[str | None]) -> Assignment | None:
    """Return the slot of a standby; None if the launcher is gone."""
    from hpo.launch.standby import Assignment

    line = lines.get()
    return None if line is None else Assignment.from_line(line)


def _nothing_to_do(storage: Storage, study: Study) -> str:
    from hpo.study.lifecycle import stopped

    mark = stopped(storage, study, "full")
    if mark is None:
        return f"nothing to do: study {study.name} has no open trial"
    return f"nothing to do: study {study.name}: {mark.reason}; to continue: hpo study resume {study.name}"
