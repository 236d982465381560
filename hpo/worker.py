"""One process on one device that claims trials, trains them and reports, until the budget is spent."""

import logging
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from data.device import DeviceImages
from hpo import ledger
from hpo.artifacts import Artifacts
from hpo.checkpointer import Checkpointer
from hpo.claim import LEASE_SECONDS, LeasedTrial, claim, claim_lost, is_finished
from hpo.epoch import EpochResult
from hpo.errors import ConflictError, StorageError, TrainingError, UnavailableError
from hpo.outbox import Outbox
from hpo.patience import patiently
from hpo.promotion import named_weights, promote
from hpo.renewal import Renewal
from hpo.reporter import Reporter
from hpo.seeds import mixed
from hpo.shift import Shift, Stopped
from hpo.storage import Storage
from hpo.study import STAGES, Stage, Study
from hpo.trainer import Trainer
from hpo.workload import Workload

T = TypeVar("T")

log = logging.getLogger("hpo.worker")

WIDTH = 16
"""Trials in a pack: beyond it the five small networks gain little on a CPU."""

IDLE_SECONDS = 0.5
"""How long a worker with nothing to claim waits before it looks again: others may still lose a trial."""

TELL_SECONDS = 15.0
"""How often a worker says how far its pack is."""

MOST_FAILURES = 3
"""So many packs in a row that raise end the worker: the fault is then not one trial's."""

LOCK_SECONDS = 3.0
"""How long a worker waits for a lock that another one holds, before it waits without the database."""

DELIVER_SECONDS = 1.0
"""How long a worker waits for the database to hear its last words."""


@dataclass
class Worker:
    """Serves one study on one device.

    `width`: the most trials it trains as one pack. `promotes`: whether it queues the best trials for full
    training itself, once the search is finished. `fleet`: how many workers start together with it, and are
    to share what waits with it though they are not ready yet.
    """

    storage: Storage
    study: Study
    workload: Workload
    name: str
    device: str
    artifacts: Path
    width: int = WIDTH
    promotes: bool = False
    lease_seconds: float = LEASE_SECONDS
    fleet: int = 1
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.perf_counter
    _outbox: Outbox = field(default_factory=Outbox)
    _tell_next: float = 0.0
    _interruptible: bool = False
    _failures: int = 0
    _marked: float = 0.0
    _database_seconds: float = 0.0
    _narrowed: dict[tuple[Stage, int], int] = field(default_factory=dict)
    _images: dict[Stage, tuple[DeviceImages, DeviceImages]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A signal is heard only between two calls of the driver: none may wait for a lock for long.
        self.storage = replace(self.storage, lock_seconds=LOCK_SECONDS)

    def run(self) -> None:
        """Works until no trial of the study is open, or it is told to stop.

        Waits for a storage that cannot be reached. Raises `TrainingError` after `MOST_FAILURES` packs in a
        row that raised.
        """
        self._marked, self._outbox = self.clock(), Outbox()
        renewal = Renewal(self.storage, self.study, self.name, self.device, self.lease_seconds)
        try:
            self._ask(renewal.renew)
            with renewal, self._outbox:
                try:
                    self._serve(renewal)
                finally:
                    self._outbox.wait(DELIVER_SECONDS)
        except UnavailableError:
            if not self.stop.is_set():
                raise  # otherwise: it was told to stop while it waited

    def listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _signal, _frame: self.stop_now())

    def stop_now(self) -> None:
        """An epoch is cut off where it stands; anything else is let finish, and the flag ends the loop."""
        self.stop.set()
        if self._interruptible:
            self._interruptible = False
            raise Stopped

    def _serve(self, renewal: Renewal) -> None:
        while not self.stop.is_set():
            # Asked before the claims: a search that ends after them is looked at once more.
            searched = self._ask(lambda: is_finished(self.storage, self.study, "search"))
            if searched and self.promotes and not self._promote():
                continue
            stage, trials = self._claim()
            if trials:
                self._train(stage, trials, renewal)
            elif searched and self._ask(lambda: is_finished(self.storage, self.study, "full")):
                self._files.sweep(self._ask(lambda: named_weights(self.storage, self.study)))
                self._charge(stage)
                return
            else:
                self.stop.wait(IDLE_SECONDS)
            self._charge(stage)

    def _promote(self) -> bool:
        """Whether the search was finished still: a user may have resumed it since it was looked at."""
        try:
            self._ask(lambda: promote(self.storage, self.study))
        except ConflictError:
            if self._ask(lambda: is_finished(self.storage, self.study, "search")):
                raise
            return False
        return True

    def _claim(self) -> tuple[Stage, list[LeasedTrial]]:
        for stage in STAGES:
            limits = {size: width for (of, size), width in self._narrowed.items() if of == stage}
            trials = self._ask(
                partial(
                    claim,
                    self.storage,
                    self.study,
                    stage,
                    self.name,
                    self.width,
                    self.lease_seconds,
                    limits,
                    self.fleet,
                )
            )
            if trials:
                break
        return stage, trials

    def _width(self, stage: Stage, batch_size: int) -> int:
        return min(self.width, self._narrowed.get((stage, batch_size), self.width))

    def _train(self, stage: Stage, trials: Sequence[LeasedTrial], renewal: Renewal) -> None:
        size = int(trials[0].point["batch_size"])
        numbers = ", ".join(map(_title, trials))
        self._tell_next = self.clock() + TELL_SECONDS
        log.info("%s: training %s (batch size %d, pack of %d)", stage, numbers, size, len(trials))
        reporter = Reporter(
            self.storage,
            self.study,
            stage,
            {"worker": self.name, "device": self.device},
            self._outbox,
            ended=partial(self._files.discard_of, stage),
            replaced=self._files.discard,
            clock=self.clock,
        )
        reporter.add(trials)
        shift: Shift | None = None
        narrowed = False
        with renewal.of(lambda: reporter.leases):
            try:
                shift = self._shift(stage, size, trials, reporter)
                shift.run()
                self._failures = 0
            except StorageError:
                raise  # no fault of the trials: they are free again when the leases end, or this process
            except Exception as error:
                if _is_broken_device(error):
                    raise  # nothing can be computed in this process any more; another one takes over
                narrowed = _is_out_of_memory(error)
                if narrowed:
                    self._out_of_memory(error, stage, size, shift, reporter, len(trials))
                else:
                    self._fail(error, stage, numbers, reporter)
            finally:
                reporter.close()
                self._marked += reporter.charged
        del shift
        if narrowed and torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()  # only now: the exception held on to what had been allocated

    def _shift(self, stage: Stage, size: int, trials: Sequence[LeasedTrial], reporter: Reporter) -> Shift:
        width = self._width(stage, size)
        return Shift(
            self._trainer(stage, size),
            trials,
            stage,
            reporter,
            self._outbox,
            self._files,
            Checkpointer(self._files, stage, self.clock),
            lambda room: claim_lost(
                self.storage, self.study, stage, self.name, room, size, self.lease_seconds
            ),
            width,
            self.stop,
            self.clock,
            partial(self._tell, stage),
        )

    def _out_of_memory(
        self,
        error: Exception,
        stage: Stage,
        size: int,
        shift: Shift | None,
        reporter: Reporter,
        members: int,
    ) -> None:
        """Half of the pack may fit. The trials go back into the queue as of their last whole epoch."""
        used = _memory_used(self.device)
        width = shift.width if shift is not None else members
        if width > 1:
            self._narrowed[stage, size] = width // 2
            log.warning(
                "%s: a pack of %d at batch size %d does not fit into the memory of %s (%s); from now on %d",
                stage,
                width,
                size,
                self.device,
                used,
                width // 2,
            )
            if shift is not None:
                shift.park()
            else:
                reporter.release()
        else:
            reason = (
                f"out of memory: alone at batch size {size} it needs more than {self.device} has ({used})"
            )
            log.error("%s: %s", stage, reason)
            reporter.fail(error, reason)

    def _fail(self, error: Exception, stage: Stage, numbers: str, reporter: Reporter) -> None:
        self._failures += 1
        log.error("%s: training %s failed", stage, numbers, exc_info=error)
        reporter.fail(error)
        if self._failures == MOST_FAILURES:
            raise TrainingError(f"{self._failures} packs in a row failed; the last: {error}") from error

    def _tell(self, stage: Stage, results: Sequence[EpochResult]) -> None:
        """A line on how long trainings go, now and then."""
        if self.clock() < self._tell_next:
            return
        self._tell_next = self.clock() + TELL_SECONDS
        losses = (f"{r.member} epoch {r.epoch} loss {r.validation_loss:.4f}" for r in results)
        log.info("%s: %s", stage, ", ".join(losses))

    @property
    def _files(self) -> Artifacts:
        return Artifacts(self.study.artifacts(self.artifacts))

    def _trainer(self, stage: Stage, batch_size: int) -> Trainer:
        if stage not in self._images:
            self._images = {stage: self.workload.images(stage, self.device)}
        train, validation = self._images[stage]
        spec = self.study.spec
        return Trainer(
            self.workload.factory,
            train,
            validation,
            spec.budget(stage),
            batch_size,
            seed=mixed(spec.seed, 3),
            device=torch.device(self.device),
            clock=self.clock,
            interruptible=self._interrupted,
        )

    @contextmanager
    def _interrupted(self) -> Iterator[None]:
        self._interruptible = True
        try:
            if self.stop.is_set():  # since the loop looked
                raise Stopped
            yield
        finally:
            self._interruptible = False

    def _ask(self, question: Callable[[], T]) -> T:
        """What the storage answers, however long it is away."""
        start = self.clock()
        try:
            return patiently(question, self.stop, log)
        finally:
            self._database_seconds += self.clock() - start

    def _charge(self, stage: Stage) -> None:
        """Charges the study with what belongs to no trial: the questions to the database, and idle time."""
        now = self.clock()
        spent = {
            "database": self._database_seconds,
            "idle": max(0.0, now - self._marked - self._database_seconds),
        }
        self._marked, self._database_seconds = now, 0.0
        study_id, delivery = self.study.study_id(stage), self._outbox.next_number()

        def deliver() -> None:
            with self.storage.transaction() as connection:
                if ledger.is_new(connection, self.name, delivery):
                    ledger.charge_study(connection, study_id, spent)

        self._outbox.post(deliver)


def _title(trial: LeasedTrial) -> str:
    return str(trial.number) + (f" from epoch {trial.checkpoint.epoch + 1}" if trial.checkpoint else "")


def _is_out_of_memory(error: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def _is_broken_device(error: Exception) -> bool:
    """After an error of CUDA itself, such as an illegal address, every further call in the process fails."""
    return isinstance(error, torch.AcceleratorError) and not _is_out_of_memory(error)


def _memory_used(device: str) -> str:
    if torch.device(device).type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"{_mebibytes(torch.cuda.max_memory_allocated(device))} of {_mebibytes(total)} used"
    return f"{_mebibytes(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)} used"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
