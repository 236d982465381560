"""One process on one device that serves a study until no trial is open."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import PurePath

from hpo.errors import ConflictError, UnavailableError
from hpo.store import costs
from hpo.store.connection import Storage
from hpo.study.completion import files_in_use, is_finished
from hpo.study.promote import promote
from hpo.study.schedule import LeasedTrial
from hpo.study.study import Study
from hpo.training.workload import Workload
from hpo.values.stage import STAGES, Stage
from hpo.worker.claims import Claims
from hpo.worker.context import WorkerContext, WorkerSettings
from hpo.worker.interruption import Interruption
from hpo.worker.lease_renewal import LeaseRenewal, WorkerEntry
from hpo.worker.outbox import Outbox
from hpo.worker.overhead import OverheadClock
from hpo.worker.pack_runner import PackRunner
from hpo.worker.runtime import Runtime
from hpo.worker.storage_calls import StorageCalls
from hpo.worker.trainers import TrainerFactory

log = logging.getLogger("hpo.worker")


class Worker:
    """Claims packs of one study, trains them on one device and reports. `run` may be called once."""

    def __init__(
        self,
        storage: Storage,
        study: Study,
        workload: Workload,
        settings: WorkerSettings,
        runtime: Runtime | None = None,
    ) -> None:
        self.study, self.settings, self.runtime = study, settings, runtime or Runtime()
        self._stop, self._limits, clock = self.runtime.stop, self.runtime.limits, self.runtime.clock
        # A signal is handled only between two calls of the driver, so no call may wait for a lock for long.
        self.storage = storage.with_lock_limit(self._limits.lock_seconds)
        context = WorkerContext(self.storage, study, settings, self.runtime)
        self._files = context.files
        self._interruption = Interruption(self._stop)
        self._outbox, self._overhead = Outbox(self._limits.delivery_backoff), OverheadClock(clock)
        self._call = StorageCalls(self.runtime, self._overhead).call
        self._claims = Claims(context)
        trainers = TrainerFactory(context, workload, self._interruption)
        self._packs = PackRunner(context, self._claims, trainers, self._outbox, self._overhead)

    def run(self) -> bool:
        """Work until no trial of the study is open, or `stop` is set. Return whether it had nothing to do.

        Waits while the storage cannot be reached. Raises `TrainingError` after `max_failures` packs in a row
        that raised.
        """
        self._overhead.start()
        entry = WorkerEntry(self.settings.name, self.study.name, self.settings.device)
        renewal = LeaseRenewal(self.storage, entry, self.settings.lease_seconds)
        try:
            self._call(renewal.renew)
            with renewal, self._outbox:
                try:
                    return self._serve(renewal)
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

    def _serve(self, renewal: LeaseRenewal) -> bool:
        """Train packs. Return whether the study ended without a pack for this worker."""
        swept, trained = False, False
        while not self._stop.is_set():
            # Asked before the claims: a search that finishes after them is checked again in the next round.
            search_finished = self._is_finished("search")
            if search_finished and not swept:
                self._sweep()  # full training may need the room of paused trials' checkpoints
                swept = True
            if search_finished and self.settings.promotes and not self._promote():
                continue
            stage, trials = self._claim()
            if trials:
                trained = True
                self._packs.run(stage, trials, renewal)
            elif search_finished and self._is_finished("full"):
                self._sweep()
                self._charge_overhead("full")
                return not trained
            else:
                self._stop.wait(self._limits.idle_seconds)
            self._charge_overhead("full" if search_finished else "search")
        return False

    def _is_finished(self, stage: Stage) -> bool:
        return self._call(lambda: is_finished(self.storage, self.study, stage))

    def _claim(self) -> tuple[Stage, Sequence[LeasedTrial]]:
        """Return the trials of the next pack, and their stage. Empty: there is nothing to train now."""
        for stage in STAGES:
            trials = self._call(partial(self._claims.claim, stage))
            if trials:
                break
        return stage, trials

    def _promote(self) -> bool:
        """Queue full trainings; return False if a user has resumed the search meanwhile."""
        try:
            promotion = self._call(lambda: promote(self.storage, self.study))
        except ConflictError:
            if self._is_finished("search"):
                raise
            return False
        if promotion.added:
            log.info(promotion.announcement)
        return True

    def _sweep(self) -> None:
        """Delete files left by killed workers and by workers that lost their trials.

        Nothing is deleted while a trial is running, since its worker may write.
        """
        leftovers = self._files.leftovers()  # first, so that no later file is among them
        needed = self._call(lambda: files_in_use(self.storage, self.study))
        if needed is not None:
            self._files.sweep(name for name in leftovers if PurePath(name).name not in needed)

    def _charge_overhead(self, stage: Stage) -> None:
        """Charge the study with the seconds that belong to no trial."""
        seconds = self._overhead.take()
        study_id, delivery = self.study.study_id(stage), self._outbox.next_number()

        def deliver() -> None:
            with self.storage.transaction() as connection:
                if costs.record_delivery(connection, self.settings.name, delivery):
                    costs.charge_study(connection, study_id, seconds)

        self._outbox.post(deliver)
