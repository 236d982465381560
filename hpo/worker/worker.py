"""One process on one device that serves a study until no trial is open."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpo.errors import UnavailableError
from hpo.store.connection import Storage
from hpo.store.workers import WorkerEntry
from hpo.study.study import Study
from hpo.worker.artifact_files import ArtifactFiles
from hpo.worker.context import WorkerContext, WorkerSettings
from hpo.worker.interruption import Interruption
from hpo.worker.lease_renewal import LeaseRenewal
from hpo.worker.outbox import Outbox
from hpo.worker.overhead import OverheadClock
from hpo.worker.runtime import Runtime
from hpo.worker.services import Services, Training
from hpo.worker.steps import Done, Wait
from hpo.worker.storage_calls import StorageCalls
from hpo.worker.study_loop import StudyLoop


class Worker:
    """Drives a `StudyLoop` in real time, with renewals, an outbox and signals. `run` may be called once."""

    def __init__(
        self,
        storage: Storage,
        study: Study,
        training: Training,
        settings: WorkerSettings,
        runtime: Runtime | None = None,
    ) -> None:
        self.study, self.settings, self.runtime = study, settings, runtime or Runtime()
        self._stop, self._limits, clock = self.runtime.stop, self.runtime.limits, self.runtime.clock
        # A signal is handled only between two calls of the driver, so no call may wait for a lock for long.
        self.storage = storage.with_lock_limit(self._limits.lock_seconds)
        context = WorkerContext(self.storage, study, settings, self.runtime)
        self._interruption = Interruption(self._stop)
        self._outbox, self._overhead = Outbox(self._limits.delivery_backoff), OverheadClock(clock)
        self._call = StorageCalls(self.runtime, self._overhead).call
        services = Services(
            training.trainers(context, self._interruption),
            training.faults(settings.device),
            ArtifactFiles(context),
            self._outbox,
            self._overhead,
            self._call,
            self._beside,
        )
        self._loop = StudyLoop(context, services)

    def run(self) -> bool:
        """Work until no trial of the study is open, or `stop` is set. Return whether it had nothing to do.

        Waits while the storage cannot be reached. Raises `TrainingError` after `max_failures` packs in a row
        that raised.
        """
        self._overhead.start()
        entry = WorkerEntry(self.settings.name, self.study.name, self.settings.device)
        renewal = LeaseRenewal(self.storage, entry, self.settings.lease_seconds, self.runtime.watch)
        try:
            self._call(renewal.renew)
            with renewal, self._outbox:
                try:
                    with renewal.renewing(lambda: self._loop.leases):
                        return self._serve()
                finally:
                    self._outbox.wait(self._limits.deliver_seconds)
        except UnavailableError:
            if not self._stop.is_set():
                raise  # otherwise the worker had to stop while it waited
        return False

    def listen_to_signals(self) -> None:
        """Stop on SIGTERM and SIGINT."""
        self._interruption.listen_to_signals()

    def stop_now(self) -> None:
        """Stop as on a signal: break off an epoch that is under way, let anything else run to its end."""
        self._interruption.stop_now()

    def _serve(self) -> bool:
        """Drive the loop in real time. Return whether the study ended without a pack for this worker."""
        while not isinstance(step := self._loop.step(), Done):
            if isinstance(step, Wait):
                self._wait(step)
        return self._loop.had_nothing_to_do

    def _wait(self, wait: Wait) -> None:
        if wait.for_delivery:
            self._outbox.wait(wait.seconds)
        else:
            self._stop.wait(wait.seconds)

    @contextmanager
    def _beside(self, look: Callable[[], object]) -> Iterator[None]:
        """Call `look` on a separate thread now and then inside the block."""
        over = threading.Event()

        def look_until_over() -> None:
            while not over.wait(self._limits.loop.join_seconds):
                look()

        looker = threading.Thread(target=look_until_over, name="look for more trials", daemon=True)
        looker.start()
        try:
            yield
        finally:
            over.set()
            looker.join()
