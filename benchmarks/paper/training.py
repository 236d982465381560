"""Train studies in full on a storage that stays, without a test of any model."""

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from hpo.errors import ConflictError, HpoError, NotFoundError
from hpo.launch.executors.local import LocalExecutor
from hpo.launch.executors.registry import make_executor
from hpo.run.artifacts import check_artifacts
from hpo.run.fleet import Fleet, log_lines, train_study
from hpo.run.studies import store_study
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage
from hpo.study import stored
from hpo.study.completion import is_finished
from hpo.study.lifecycle import stopped
from hpo.study.promote import promote
from hpo.study.study import Study
from hpo.values.stage import STAGES

log = logging.getLogger("benchmarks")


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains studies as `hpo run` does, but for the export: nothing here reads the test images.

    A study that is stored already is continued where it stands, and a finished one is left alone. The process
    may be killed at any time.
    """

    storage: Storage
    settings: Settings
    executor: LocalExecutor

    @classmethod
    def open(cls, gpus: str = "all", per_device: int | None = None, width: int | None = None) -> "Trainer":
        """Return a trainer on the storage of the environment and the devices of this machine."""
        settings = Settings.from_environment()
        executor = make_executor("local", gpus=gpus, per_device=per_device, width=width)
        assert isinstance(executor, LocalExecutor)
        return cls(open_storage(settings), settings, executor)

    def find(self, name: str) -> Study | None:
        """Return the stored study of that name, None if there is none."""
        try:
            return stored.load(self.storage, name)
        except NotFoundError:
            return None

    def train(self, spec: StudySpec, executor: LocalExecutor | None = None, promotes: bool = True) -> Study:
        """Train a study until no trial of either stage is open, and return it.

        `executor`: by default all slots of this machine. `promotes`: whether to go on after the search.
        Raises `ConflictError` if the stored study of that name has another recipe, or was stopped by hand.
        """
        present = self.find(spec.name)
        spec = spec if present is None else grown(spec, present.spec)
        if present is None or present.spec != spec or not self._is_trained(present, promotes):
            study, _ = store_study(spec, f"study {spec.name!r}", self.storage, probes=True)
            present = study.stored
            check_artifacts(self.storage, present, self.settings)
            log.info("study %s: training", spec.name)
            fleet = Fleet(executor or self.executor, self.settings, promotes)
            train_study(self.storage, present, fleet, log_lines)
        mark = stopped(self.storage, present, "full")
        if mark is not None and mark.by == "user":
            way_out = f"hpo study resume {spec.name}"
            raise ConflictError(f"study {spec.name!r} is stopped: {mark.reason}; {way_out}")
        return present

    def train_all(self, specs: Sequence[StudySpec]) -> None:
        """Train several studies, as many at once as there are slots, each in one slot.

        Raises the first error after all studies were tried.
        """
        slots = self.executor.slots
        if len(slots) < 2 or len(specs) < 2:
            for spec in specs:
                self.train(spec)
            return
        work = _Work(specs)
        # Daemons end with this process, and their workers end with them.
        threads = [
            threading.Thread(target=self._train_queued, args=(work, executor), daemon=True)
            for executor in (LocalExecutor([slot], self.executor.width) for slot in slots)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in work.errors:
            raise error

    def _train_queued(self, work: "_Work", executor: LocalExecutor) -> None:
        for spec in work:
            try:
                self.train(spec, executor)
            except HpoError as error:
                log.error("study %s: %s", spec.name, error)
                work.errors.append(error)

    def _is_trained(self, study: Study, promotes: bool) -> bool:
        """Return whether both stages are finished, and no promotion is due."""
        if not all(is_finished(self.storage, study, stage) for stage in STAGES):
            return False
        try:
            return not promotes or promote(self.storage, study).queued == 0
        except ConflictError:  # nothing completed, or a stopped search has begun trials
            return False


@dataclass(frozen=True, slots=True)
class _Work:
    """Studies to train, which several threads take, and the errors that they met."""

    specs: Sequence[StudySpec]
    errors: list[HpoError] = field(default_factory=list)
    _queue: SimpleQueue[StudySpec] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        for spec in self.specs:
            self._queue.put(spec)

    def __iter__(self) -> Iterator[StudySpec]:
        while True:
            try:
                yield self._queue.get_nowait()
            except Empty:
                return


def grown(spec: StudySpec, present: StudySpec) -> StudySpec:
    """Return the spec with at least as many promotions and seeds as the stored study: these only grow."""
    promotion = {
        name: max(getattr(spec.promotion, name), getattr(present.promotion, name))
        for name in ("top", "seeds")
    }
    return spec.model_copy(update={"promotion": spec.promotion.model_copy(update=promotion)})
