"""Commands that train: the whole way in one go, a fleet of workers, one worker."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import click

from hpo.cli.shared import command, device_options, is_stopped, opened, result, settings, study_name, words
from hpo.errors import InputError, TrainingError

if TYPE_CHECKING:
    from hpo.launch.slot import Slot
    from hpo.store.connection import Storage
    from hpo.study.study import Study

log = logging.getLogger("hpo.launch")

T = TypeVar("T")

ORPHAN_SECONDS = 20.0
"""How long a worker whose launcher is gone gets to save and hand back its trials."""

AWAY_SECONDS = 60.0
"""How long the end of a run waits for the folder with the weights."""


@command("hpo run studies/quickstart.toml")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@device_options
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the best model goes. Default: under HPO_ARTIFACTS.",
)
def run(file: Path, gpus: str, per_device: int | None, width: int | None, bundle: Path | None) -> None:
    """Do all of a study, from file to model.

    Search, promotion, full training, export. It can be stopped and called again at any time: it carries
    on where things stand.
    """
    from hpo.launch.devices import slots
    from hpo.spec.study_spec import StudySpec

    spec = StudySpec.load(file)
    chosen = slots(gpus, per_device)
    found = settings()
    from hpo.store.connection import open_storage
    from hpo.store.url import parse_url

    parse_url(found)

    # Slow to import, and needed only once what the user wrote is known to be right.
    from hpo.cli.tables import final_table
    from hpo.export.bundle import load_bundle
    from hpo.export.export import export_bundle, is_exported
    from hpo.study.best import best_params
    from hpo.study.promote import promote
    from hpo.study.study import create
    from hpo.training.workload import Workload

    workload = Workload(spec, found.data_path)
    workload.check()
    storage = open_storage(found)
    creation = create(storage, spec, str(file))
    study = creation.study
    words(
        f"study {study.name}: {creation.did}"
        + (f", {creation.added} trials queued" if creation.added else "")
    )
    trained = _launch(storage, study, ["worker", study.name, "--promote", *_width(width)], chosen)
    if _patiently(lambda: is_stopped(storage, study)):
        return
    _patiently(lambda: promote(storage, study))  # says so where there is nothing to promote
    best = _patiently(lambda: best_params(storage, study, "full"))
    directory = bundle or study.artifacts(found.artifacts_path) / "bundle"
    if not trained and is_exported(study, best, directory):
        words("nothing to do: every trial is finished and the best model is exported")
        metrics = load_bundle(directory).metrics
    else:
        words("testing the best model on the test images")
        export = partial(export_bundle, storage, study, workload, found.artifacts_path, directory)
        metrics = _soon(lambda: _patiently(export)) if trained else _patiently(export)
    result(_patiently(lambda: final_table(storage, study, metrics, directory)))


@command("hpo workers lenet --gpus 0,1")
@study_name
@device_options
def workers(name: str, gpus: str, per_device: int | None, width: int | None) -> None:
    """Start workers for a study and keep them.

    One or more processes per device. They train what is queued, the search first, then promoted trials,
    and end when nothing is left. Any number of such calls, on any number of machines, may serve one study.
    """
    from hpo.launch.devices import slots

    chosen = slots(gpus, per_device)
    _, storage, study = opened(name)
    trained = _launch(storage, study, ["worker", study.name, *_width(width)], chosen)
    if _patiently(lambda: is_stopped(storage, study)):
        return
    if not trained:
        words(f"nothing to do: study {study.name} has no open trial")
    _say_next(storage, study)


@command("hpo worker lenet --device cuda:0")
@study_name
@click.option("--device", default="cpu", show_default=True, help="A torch device: cpu, cuda:0, ...")
@click.option("--width", type=click.IntRange(min=1), help="Most trials in one pack. Default: 16.")
@click.option("--promote", is_flag=True, help="Queue the best trials once the search is finished.")
@click.option("--name", "worker_name", hidden=True, help="What leases and logs call this worker.")
@click.option("--lifeline", is_flag=True, hidden=True, help="Stop when standard input is closed.")
@click.option("--fleet", type=int, default=1, hidden=True, help="How many workers its launcher starts.")
@click.option("--standby", is_flag=True, hidden=True, help="Take the device from standard input, once ready.")
def worker(
    name: str,
    device: str,
    width: int | None,
    promote: bool,
    worker_name: str | None,
    lifeline: bool,
    fleet: int,
    standby: bool,
) -> None:
    """Be one worker, in the foreground.

    For containers and schedulers. It ends when the study has no open trial left. On SIGTERM it hands its
    trials back and ends.
    """
    if standby:
        signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit())
    lines = _follow_launcher() if lifeline else None
    gc.disable()  # it would go through all modules again and again while they come, a tenth of the start
    import socket

    from hpo.launch.standby import Assignment
    from hpo.study.schedule import WIDTH
    from hpo.training.allocator import keep_freed
    from hpo.training.workload import Workload
    from hpo.worker.worker import Worker

    gc.freeze()
    gc.enable()

    # Whoever starts it by hand wants to know at once that there is no storage.
    found, storage, study = _patiently(lambda: opened(name)) if lifeline else opened(name)
    workload = Workload(study.spec, found.data_path)
    if standby and lines is not None:
        workload.check()
        _ = workload.mean, workload.std
        storage.engine.dispose()
        line = lines.get()
        if line is None:
            return
        assignment = Assignment.from_line(line)
        assignment.take_on()
        device = assignment.device
    server = Worker(
        storage,
        study,
        workload,
        name=worker_name or f"{socket.gethostname()}-{os.getpid()}",
        device=_device(device, lifeline),
        artifacts=found.artifacts_path,
        width=width or WIDTH,
        promotes=promote,
        lease_seconds=found.lease_seconds,
        fleet=fleet,
        programs=found.programs_path,
    )
    keep_freed()
    server.listen_to_signals()
    server.run()


def _device(name: str, launched: bool) -> str:
    """`name`, if torch can compute there. Raises `InputError`, or `TrainingError` where a launcher chose it:
    then another process is worth a try."""
    from hpo.training.workload import usable_device

    try:
        return usable_device(name)
    except InputError as error:
        if not launched:
            raise
        raise TrainingError(str(error)) from error


def _launch(storage: Storage, study: Study, arguments: list[str], chosen: list[Slot]) -> bool:
    """Serves the study with workers until no trial is open; whether there was anything to do.

    Raises `TrainingError` if workers ended badly and left trials behind.
    """
    from hpo.cli.progress import StudyProgress
    from hpo.launch.launcher import Launcher
    from hpo.store.workers import forget
    from hpo.study.schedule import is_finished
    from hpo.study.status import status

    def finished() -> bool:
        return is_finished(storage, study, "search") and is_finished(storage, study, "full")

    def is_open() -> bool:
        return not finished() or ("--promote" in arguments and _promoted_more(storage, study))

    def settle(worker: str) -> bool:
        with storage.transaction() as connection:
            forget(connection, worker)
        return is_open()

    if not is_open():
        return False
    labels = ", ".join(sorted({slot.label for slot in chosen}))
    words(f"{len(chosen)} worker{'s' * (len(chosen) > 1)} on {labels}; stop with Ctrl-C, nothing is lost")
    with StudyProgress(lambda: status(storage, study)) as progress:
        fleet = ["--fleet", str(len(chosen))]
        Launcher([sys.executable, "-m", "hpo", *arguments, *fleet], chosen, settle, progress.write).run()
    if not _patiently(finished):
        raise TrainingError(
            f"study {study.name!r}: its workers ended before all trials were finished; their log says why"
        )
    return True


def _promoted_more(storage: Storage, study: Study) -> bool:
    """Promotes; whether that added a trial, as it does when the study file came to ask for more."""
    from hpo.study.promote import promote

    return promote(storage, study).added > 0


def _say_next(storage: Storage, study: Study) -> None:
    from hpo.study.status import status

    now = _patiently(lambda: status(storage, study))
    if not any(now.full.states.values()):
        words(f"search finished; next: hpo promote {study.name}, then hpo workers {study.name}")
    else:
        words(f"finished; next: hpo export {study.name} --bundle DIR")


def _patiently(call: Callable[[], T]) -> T:
    """What `call` gives, once the storage can be reached."""
    from hpo.store.retry import until_available

    return until_available(call, threading.Event(), log)


def _soon(call: Callable[[], T]) -> T:
    """What `call` gives, once a folder that is away is back: the weights were there when a trial ended."""
    from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

    from hpo.errors import AwayError

    def say(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("waiting for the weights: %s", state.outcome.exception())

    return Retrying(
        retry=retry_if_exception_type(AwayError),
        wait=wait_fixed(1),
        stop=stop_after_delay(AWAY_SECONDS),
        before_sleep=say,
        reraise=True,
    )(call)


def _width(width: int | None) -> list[str]:
    return [] if width is None else ["--width", str(width)]


def _follow_launcher() -> SimpleQueue[str | None]:
    """Gives the lines that the launcher sends on stdin, None after the last.

    When its end of the pipe is closed, this process ends as after SIGTERM, or is killed if it does not.
    """
    lines = SimpleQueue[str | None]()
    main = threading.main_thread().ident
    assert main is not None

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put(None)
        signal.pthread_kill(main, signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        # The main thread does not hear: it waits in a driver, and there is no launcher left to see to it.
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=read, name="lifeline", daemon=True).start()
    return lines
