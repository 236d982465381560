"""Serve a study until no trial is open, step by step: claim, train, promote, sweep."""

import logging
from functools import partial

from hpo.errors import ConflictError, NothingCompletedError
from hpo.store import costs
from hpo.store.leases import Lease
from hpo.study.completion import files_in_use, is_finished
from hpo.study.promote import Promotion, promote
from hpo.values.stage import Stage
from hpo.worker.claims import Claims
from hpo.worker.context import WorkerContext
from hpo.worker.pack_runner import PackRunner
from hpo.worker.services import Services
from hpo.worker.steps import AGAIN, DONE, Done, Step, Wait

log = logging.getLogger("hpo.worker")


class StudyLoop:
    """Claims packs of one study, trains them, and promotes the best trials of a finished search.

    The driver calls `step` until it returns `Done`: no trial of the worker's stages is open, or `stop` is
    set. A `Wait` between packs means that there is nothing to claim now.
    """

    def __init__(self, context: WorkerContext, services: Services) -> None:
        self._storage, self._study, self._settings = context.storage, context.study, context.settings
        self._stop, self._limits = context.runtime.stop, context.runtime.limits
        self._services, self._call = services, services.call
        self._claims = Claims(context)
        self._packs = PackRunner(context, self._claims, services)
        self._search_finished = self._swept = self._has_trained = False
        self._waited = self._is_over = False

    @property
    def leases(self) -> tuple[Lease, ...]:
        """The leases of the open trials of the pack, by the database's last answer."""
        return self._packs.leases

    @property
    def had_nothing_to_do(self) -> bool:
        """Whether the study ended without a pack for this worker."""
        return self._is_over and not self._has_trained

    def step(self) -> Step:
        """Take a step of the pack, or begin the next one; return what to do next.

        Raises `UnavailableError` if the worker has to stop while the storage is away, and `TrainingError`
        after `max_failures` packs in a row that raised.
        """
        if not self._packs.is_running:
            return self._next_pack()
        step = self._packs.step()
        if not isinstance(step, Done):
            return step
        self._charge_overhead()
        return AGAIN

    def _next_pack(self) -> Step:
        """Begin the next pack, wait for one, or end."""
        if self._waited:
            self._charge_overhead()
            self._waited = False
        if self._stop.is_set():
            return DONE
        if self._begin("search"):
            self._search_finished = False
            return AGAIN
        # Asked after the claim: most packs cost no further query.
        self._search_finished = self._is_finished("search")
        if self._search_finished:
            if not self._swept:
                self._sweep()  # full training may need the room of paused trials' checkpoints
                self._swept = True
            if self._settings.promotes and self._promote() is None:
                return AGAIN
        trains_full = self._settings.trains_full
        if trains_full and self._begin("full"):
            return AGAIN
        if self._search_finished and (not trains_full or self._is_finished("full")):
            if trains_full and self._settings.promotes and self._promotes_more():
                return AGAIN
            self._sweep()
            self._charge_overhead()
            self._is_over = True
            return DONE
        self._waited = True
        return Wait(self._limits.idle_seconds)

    def _begin(self, stage: Stage) -> bool:
        """Claim a pack of this stage and begin it; return False if there is nothing to train now."""
        trials = self._call(partial(self._claims.claim, stage))
        if not trials:
            return False
        self._has_trained = True
        self._packs.begin(stage, trials)
        return True

    def _is_finished(self, stage: Stage) -> bool:
        return self._call(lambda: is_finished(self._storage, self._study, stage))

    def _promotes_more(self) -> bool:
        """Return whether there is more to train: the last full training may have ended meanwhile."""
        promotion = self._promote()
        return promotion is None or promotion.queued > 0

    def _promote(self) -> Promotion | None:
        """Queue full trainings and refits; return None if a user has resumed the search meanwhile."""
        try:
            promotion = self._call(lambda: promote(self._storage, self._study))
        except NothingCompletedError:  # the study can do no more, and whoever promotes hears why
            return Promotion((), 0)
        except ConflictError:
            if self._is_finished("search"):
                raise
            return None
        if promotion.queued:
            log.info(promotion.announcement)
        return promotion

    def _sweep(self) -> None:
        in_use = partial(files_in_use, self._storage, self._study)
        self._services.files.sweep(lambda: self._call(in_use))

    def _charge_overhead(self) -> None:
        """Charge the study with the seconds that belong to no trial."""
        seconds = self._services.overhead.take()
        study_id = self._study.study_id("full" if self._search_finished else "search")
        worker, delivery = self._settings.name, self._services.outbox.next_number()

        def deliver() -> None:
            with self._storage.transaction() as connection:
                if costs.record_delivery(connection, worker, delivery):
                    costs.charge_study(connection, study_id, seconds)

        self._services.outbox.post(deliver)
