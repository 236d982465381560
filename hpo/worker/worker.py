"""One process on one device that claims trials, trains them and reports, until the budget is spent."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path, PurePath
from typing import TypeVar

import torch

from hpo.artifacts.folder import ArtifactFolder
from hpo.data.device import DeviceImages
from hpo.errors import ConflictError, HpoError, TrainingError, UnavailableError
from hpo.settings import LEASE_SECONDS
from hpo.store import costs
from hpo.store.connection import Storage
from hpo.store.retry import until_available
from hpo.study.promote import promote
from hpo.study.schedule import WIDTH, LeasedTrial, claim, claim_lost, files_at_rest, is_finished
from hpo.study.study import Study
from hpo.training.async_evaluation import Overlap, SideStream
from hpo.training.engines.autotuning import AutotunedEngine
from hpo.training.engines.cuda_graphs import CudaGraphEngine
from hpo.training.engines.eager import Engine
from hpo.training.memory import is_broken, is_out_of_memory, is_taken_by_others, memory_used
from hpo.training.trainer import Trainer
from hpo.training.workload import Workload
from hpo.values.epoch import EpochResult
from hpo.values.precision import Precision
from hpo.values.seeds import derive_seed
from hpo.values.stage import STAGES, Stage
from hpo.worker.checkpointer import Checkpointer
from hpo.worker.lease_renewal import Renewal
from hpo.worker.outbox import Outbox
from hpo.worker.reporter import Reporter
from hpo.worker.trial_files import TrialFiles
from hpo.worker.trial_loop import ToldToStop, TrialLoop

T = TypeVar("T")

log = logging.getLogger("hpo.worker")

IDLE_SECONDS = 0.5
"""How long a worker with nothing to claim waits before it looks again: others may still lose a trial."""

TELL_SECONDS = 15.0
"""How often a worker says how far its pack is."""

MOST_FAILURES = 3
"""So many packs in a row that raise end the worker: the fault is then not one trial's."""

LOCK_SECONDS = 3.0
"""How long a worker waits for a lock that another one holds, before it waits without the database."""

HEAR_SECONDS = 0.5
"""How soon a worker that waits for an answer looks whether it was told to stop."""

DELIVER_SECONDS = 1.0
"""How long a worker that was told to stop waits for an answer, and for its last words to be heard."""


@dataclass
class Worker:
    """Serves one study on one device.

    `width`: the most trials it trains as one pack. `promotes`: whether it queues the best trials for full
    training itself, once the search is finished. `fleet`: how many workers start together with it, and are
    to share what waits with it though they are not ready yet. `fills`: whether a full pack is worth more than
    what is known when its members are chosen: the sampler is asked for a whole pack, and when members leave,
    others that nobody has begun take their room. Unless it is said, that is so on an accelerator, which
    computes all members at once, and not on a CPU, where they take turns.
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
    programs: Path | None = None
    fills: bool | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.perf_counter
    _outbox: Outbox = field(init=False)
    _tell_next: float = 0.0
    _interruptible: bool = False
    _failures: int = 0
    _marked: float = 0.0
    _database_seconds: float = 0.0
    _narrowed: dict[tuple[Stage, int], int] = field(default_factory=dict)
    _checkpointers: dict[Stage, Checkpointer] = field(init=False)
    _images: dict[Stage, tuple[DeviceImages, DeviceImages]] = field(default_factory=dict)
    _tuned: dict[tuple[Precision, ...], AutotunedEngine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A signal is heard only between two calls of the driver: none may wait for a lock for long.
        self.storage = replace(self.storage, lock_seconds=LOCK_SECONDS)
        self._checkpointers = {stage: Checkpointer(self._files, stage, self.clock) for stage in STAGES}
        if self.fills is None:
            self.fills = torch.device(self.device).type != "cpu"

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
        """SIGTERM and SIGINT tell it to stop."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write)

        def hear() -> None:
            os.read(read, 1)
            self.stop.set()  # not in the handler, which may interrupt a wait that holds the event's lock

        threading.Thread(target=hear, name="signals", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _signal, _frame: self._cut_off())

    def stop_now(self) -> None:
        """An epoch is cut off where it stands; anything else is let finish, and the flag ends the loop."""
        self.stop.set()
        self._cut_off()

    def _cut_off(self) -> None:
        if self._interruptible:
            self._interruptible = False
            raise ToldToStop

    def _serve(self, renewal: Renewal) -> None:
        swept = False
        while not self.stop.is_set():
            # Asked before the claims: a search that ends after them is looked at once more.
            searched = self._ask(lambda: is_finished(self.storage, self.study, "search"))
            if searched and not swept:
                self._sweep()  # what paused trials went on from may need as much room as full training
                swept = True
            if searched and self.promotes and not self._promote():
                continue
            stage, trials = self._claim()
            if trials:
                self._train(stage, trials, renewal)
            elif searched and self._ask(lambda: is_finished(self.storage, self.study, "full")):
                self._sweep()
                self._charge("full")
                return
            else:
                self.stop.wait(IDLE_SECONDS)
            self._charge("full" if searched else "search")

    def _sweep(self) -> None:
        """Deletes what workers that were killed or lost their trials have left, if nobody works by now."""
        found = self._files.leftovers()  # before the look: what is written later is not among them
        named = self._ask(lambda: files_at_rest(self.storage, self.study))
        if named is not None:
            self._files.sweep(path for path in found if PurePath(path).name not in named)

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
                    proposals=self.width if self.fills else None,
                )
            )
            if trials:
                break
        return stage, trials

    def _claim_more(self, stage: Stage, size: int, room: int) -> list[LeasedTrial]:
        if self.fills:
            return claim(
                self.storage,
                self.study,
                stage,
                self.name,
                room,
                self.lease_seconds,
                fleet=self.fleet,
                batch_size=size,
            )
        # What nobody has begun is better left to whoever comes free.
        return claim_lost(self.storage, self.study, stage, self.name, room, size, self.lease_seconds)

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
            ended=partial(self._files.delete_checkpoints_of, stage),
            replaced=self._files.delete_checkpoints,
            clock=self.clock,
        )
        reporter.add(trials)
        shift: TrialLoop | None = None
        narrowed = False
        with renewal.of(lambda: reporter.leases):
            try:
                shift = self._shift(stage, size, trials, reporter)
                shift.run()
                self._failures = 0
            except HpoError:
                raise  # no fault of the trials: they are free again when the leases end, or this process
            except Exception as error:
                narrowed = is_out_of_memory(error)
                if is_broken(error) or (narrowed and shift is None):
                    raise  # nothing, or nothing more, can be computed in this process; another one takes over
                if narrowed and shift is not None:
                    self._out_of_memory(error, stage, size, shift, reporter)
                else:
                    members = [trial.number for trial in trials] if shift is None else shift.members
                    self._fail(error, stage, members, reporter)
            finally:
                reporter.close()
                self._marked += reporter.charged
        del shift
        if narrowed and torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()  # only now: the exception held on to what had been allocated

    def _shift(self, stage: Stage, size: int, trials: Sequence[LeasedTrial], reporter: Reporter) -> TrialLoop:
        width = self._width(stage, size)
        return TrialLoop(
            self._trainer(stage, size),
            trials,
            stage,
            reporter,
            self._outbox,
            self._files,
            self._checkpointers[stage],
            partial(self._claim_more, stage, size),
            width,
            bool(self.fills),
            self.stop,
            self.clock,
            partial(self._tell, stage),
        )

    def _out_of_memory(
        self, error: Exception, stage: Stage, size: int, shift: TrialLoop, reporter: Reporter
    ) -> None:
        """Half of the pack may fit. The trials go back into the queue as of their last whole epoch.

        Raises `TrainingError` if one alone does not fit because others fill the device: not its fault.
        """
        used, width = memory_used(self.device), shift.width
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
            shift.suspend()
            return
        if is_taken_by_others(self.device):
            shift.suspend()
            raise TrainingError(f"{self.device} has no memory for a trial: others use it ({used})") from error
        reason = f"out of memory: alone at batch size {size} it needs more than {self.device} has ({used})"
        log.error("%s: %s", stage, reason)
        reporter.fail(error, shift.members, reason)

    def _fail(self, error: Exception, stage: Stage, members: Sequence[int], reporter: Reporter) -> None:
        self._failures += 1
        log.error("%s: training %s failed", stage, ", ".join(map(str, members)), exc_info=error)
        reporter.fail(error, members)
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
    def _files(self) -> TrialFiles:
        return TrialFiles(ArtifactFolder(self.study.artifacts(self.artifacts)))

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
            seed=derive_seed(spec.seed, 3),
            device=torch.device(self.device),
            clock=self.clock,
            interruptible=self._interrupted,
            engine=self._engine(stage, len(train)),
            overlap=self._overlap,
        )

    @cached_property
    def _overlap(self) -> Overlap | None:
        """Only a GPU can be at two things at once: on a CPU the training keeps every thread busy."""
        device = torch.device(self.device)
        return SideStream(device) if device.type == "cuda" else None

    def _engine(self, stage: Stage, images: int) -> Engine:
        spec = self.study.spec
        precisions = spec.precisions(stage)
        on_cpu = torch.device(self.device).type == "cpu"
        if not on_cpu and spec.uses_cuda_graphs:
            return CudaGraphEngine(precisions[0])
        if self.programs is None or not on_cpu or not spec.autotunes(stage, images):
            return Engine(precisions[0])
        if precisions not in self._tuned:
            compiles = spec.engine.compile != "never"
            self._tuned[precisions] = AutotunedEngine(
                self.workload.program, self.programs, precisions, compiles
            )
        return self._tuned[precisions]

    @contextmanager
    def _interrupted(self) -> Iterator[None]:
        self._interruptible = True
        try:
            if self.stop.is_set():  # since the loop looked
                raise ToldToStop
            yield
        finally:
            self._interruptible = False

    def _ask(self, question: Callable[[], T]) -> T:
        """What the storage answers, however long it is away.

        On a thread: the driver hears no signal while it waits for a server that says nothing.
        """
        start, answer = self.clock(), Future[T]()

        def ask() -> None:
            try:
                answer.set_result(until_available(question, self.stop, log))
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=ask, name="question", daemon=True).start()
        try:
            while not wait([answer], HEAR_SECONDS).done:
                if self.stop.is_set() and not wait([answer], DELIVER_SECONDS).done:
                    raise UnavailableError("told to stop while the storage did not answer")
            return answer.result()
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
                if costs.record_delivery(connection, self.name, delivery):
                    costs.charge_study(connection, study_id, spent)

        self._outbox.post(deliver)


def _title(trial: LeasedTrial) -> str:
    return str(trial.number) + (f" from epoch {trial.checkpoint.epoch + 1}" if trial.checkpoint else "")
