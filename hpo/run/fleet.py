"""The workers of one launcher, and the training of a study with them."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpo.errors import NothingCompletedError, TrainingError
from hpo.launch.executors.base import Executor, WorkerCommand
from hpo.launch.launcher import Launcher
from hpo.launch.output import Output
from hpo.run.retry import until_storage_answers
from hpo.run.training_images import training_images
from hpo.run.worker_log import WorkerLog
from hpo.settings import Settings
from hpo.store.connection import Storage
from hpo.store.workers import forget
from hpo.study.completion import is_finished
from hpo.study.live import LiveStatus, live_status
from hpo.study.promote import promote
from hpo.study.study import Study
from hpo.values.wording import counted

log = logging.getLogger("hpo.launch")


class Progress(Protocol):
    """A display of a study's progress."""

    def write(self, line: str) -> None:
        """Show a line without disturbing the display."""

    def hear(self, line: str) -> None:
        """Take a line of a worker."""


ShowProgress = Callable[[Callable[[], LiveStatus], Path | None], AbstractContextManager[Progress]]
"""Opens a display that reads the status of the study from its first argument. The second is the file that
has the lines of the workers, None if it cannot be written."""


class LoggedLines:
    """A display that logs lines."""

    def write(self, line: str) -> None:
        """Log a line."""
        log.info("%s", line)

    hear = write


@contextmanager
def log_lines(_read: Callable[[], LiveStatus], _log_file: Path | None = None) -> Iterator[Progress]:
    """Open a display for programs: lines in the log."""
    yield LoggedLines()


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers to start, one for each slot of `executor`.

    `settings`: of the workers. `promotes`: whether they queue the best trials for full training once the
    search is finished.
    """

    executor: Executor
    settings: Settings
    promotes: bool = False

    def command(self, study: str) -> WorkerCommand:
        """Return what each worker runs."""
        promote = ["--promote"] if self.promotes else []
        width = [] if self.executor.width is None else ["--width", str(self.executor.width)]
        arguments = [study, *promote, *width, "--fleet", str(len(self.executor.slots))]
        return WorkerCommand(arguments, self.settings.to_environment())


def train_study(storage: Storage, study: Study, fleet: Fleet, show_progress: ShowProgress) -> bool:
    """Train a study with a fleet of workers until no trial is open. Return whether there was an open trial.

    Raises `TrainingError` if workers failed and left trials behind, and `KeyboardInterrupt` on an interrupt.
    """

    def finished() -> bool:
        return is_finished(storage, study, "search") and is_finished(storage, study, "full")

    def is_open() -> bool:
        # A study file that asks for more promotions adds full trainings to a finished study.
        return not finished() or (fleet.promotes and _promotes(storage, study))

    def reclaim(worker: str) -> bool:
        with storage.transaction() as connection:
            forget(connection, worker)
        return is_open()

    if not is_open():
        return False
    slots = fleet.executor.slots
    labels = ", ".join(sorted({slot.label for slot in slots}))
    workers = counted(len(slots), "worker")
    log.info("%s on %s; stop with Ctrl-C, nothing is lost", workers, labels)
    images = training_images(study, fleet.settings)
    with (
        WorkerLog(fleet.settings.logs_path / study.artifacts_name) as worker_log,
        show_progress(lambda: live_status(storage, study, images), worker_log.path) as progress,
    ):
        output = Output(worker_log.writing(progress.write), worker_log.writing(progress.hear))
        Launcher(fleet.executor, fleet.command(study.name), reclaim, output).run()
    if not until_storage_answers(finished):
        where = "" if worker_log.path is None else f": {worker_log.path}"
        raise TrainingError(
            f"study {study.name!r}: its workers ended before all trials were finished; their log says "
            f"why{where}"
        )
    return True


def _promotes(storage: Storage, study: Study) -> bool:
    """Queue full trainings and refits; return whether there are new ones."""
    try:
        promotion = promote(storage, study)
    except NothingCompletedError:  # nothing is left to do, and the caller says why
        return False
    if promotion.queued:
        log.info(promotion.announcement)
    return promotion.queued > 0
