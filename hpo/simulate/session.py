"""Sessions whose epochs are read from a table of curves, and files that keep nothing."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from hpo.artifacts.base import ArtifactStore
from hpo.errors import AwayError
from hpo.simulate.curve_table import CurveTable, Run
from hpo.spec.study_spec import StudySpec
from hpo.store.checkpoints import Checkpoint
from hpo.study.schedule import LeasedTrial
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult
from hpo.values.parameters import PackKey
from hpo.values.space import Point
from hpo.values.stage import Stage
from hpo.values.state import Arrays, SessionState
from hpo.worker.pack_writer import NO_CLEANUP, FileCleanup


class TableSession:
    """Members that read their curves. Their state has no arrays, because the number of epochs is enough."""

    phase = 0

    def __init__(self, trainer: "TableTrainer") -> None:
        """Create a session without members."""
        self._trainer = trainer
        self._runs: dict[int, Run] = {}
        self._epochs: dict[int, int] = {}

    @property
    def members(self) -> list[int]:
        return list(self._epochs)

    def join(self, candidates: Mapping[int, Candidate], states: Mapping[int, SessionState]) -> None:
        trainer = self._trainer
        for key, candidate in candidates.items():
            trainer.points[key] = point = trainer.point(candidate)
            self._runs[key] = trainer.table.run(point, candidate.seed)
            self._epochs[key] = states[key].epochs if key in states else 0

    def check(self, state: SessionState) -> None:
        pass

    def epoch(self) -> list[EpochResult]:
        self._epochs = {key: epoch + 1 for key, epoch in self._epochs.items()}
        results = [self._result(key, epoch) for key, epoch in self._epochs.items()]
        self.drop([result.member for result in results if result.status != "training"])
        self._trainer.unreported = results
        return results

    def states(self, keys: Collection[int] | None = None) -> dict[int, SessionState]:
        return {key: _state(epoch) for key, epoch in self._epochs.items() if keys is None or key in keys}

    def weights(self, key: int) -> Arrays:
        raise KeyError(key)  # a replay ends with the search

    def drop(self, keys: Collection[int]) -> None:
        self._epochs = {key: epoch for key, epoch in self._epochs.items() if key not in keys}

    def _result(self, key: int, epoch: int) -> EpochResult:
        measured = self._runs[key][epoch - 1]
        last = epoch == self._trainer.spec.search.epochs
        return EpochResult(
            member=key,
            epoch=epoch,
            metrics=measured.metrics,
            seconds=measured.seconds,
            evaluation_seconds=measured.evaluation_seconds,
            status="diverged" if not measured.is_finite else "finished" if last else "training",
            kept_epoch=epoch,
        )


@dataclass
class TableTrainer:
    """Starts the sessions of one simulated worker.

    `points`: the points of the trials that have started, by number; workers share them. `unreported`: the
    results of the last epoch until `take` is called. `session`: the last one started.
    """

    spec: StudySpec
    table: CurveTable
    points: dict[int, Point]
    unreported: list[EpochResult] = field(default_factory=list)
    session: TableSession | None = None

    def make(self, _stage: Stage, _key: PackKey) -> "TableTrainer":
        return self

    def prepare(self) -> None:
        pass

    def start(
        self, candidates: Mapping[int, Candidate], states: Mapping[int, SessionState] | None = None
    ) -> TableSession:
        self.session = TableSession(self)
        self.session.join(candidates, states or {})
        return self.session

    @property
    def members(self) -> int:
        """Return the number of members of the session started last."""
        return 0 if self.session is None else len(self.session.members)

    def take(self) -> list[EpochResult]:
        """Return the results of the last epoch, once."""
        results, self.unreported = self.unreported, []
        return results

    def point(self, candidate: Candidate) -> Point:
        """Return the searched parameters of a candidate."""
        params = candidate.params
        return {name: params[name] for name in self.spec.space.domains if name in params}


class NoArtifacts(ArtifactStore):
    """A store without files."""

    def _put(self, _name: str, _data: bytes) -> None:
        pass

    def _get(self, name: str) -> bytes:
        raise AwayError(f"{name}: nothing is stored")

    def _list(self, _prefix: str) -> list[str]:
        return []

    def _delete(self, _name: str) -> None:
        pass


class NoFiles:
    """Checkpoints that keep nothing but the epoch, which is all that a member of a table resumes from."""

    is_due = False

    def checkpoints(self, _stage: Stage) -> "NoFiles":
        return self

    def cleanup(self, _stage: Stage) -> FileCleanup:
        return NO_CLEANUP

    def sweep(self, in_use: Callable[[], set[str] | None]) -> None:
        pass

    def save(
        self,
        _trials: Mapping[int, LeasedTrial],
        states: Callable[[], Mapping[int, SessionState]],
        _saved_epochs: Mapping[int, int],
        _seconds: float = 0.0,
    ) -> dict[int, Checkpoint]:
        return {number: Checkpoint(state.epochs, "nothing") for number, state in states().items()}

    def save_weights(self, trial: LeasedTrial, _weights: Arrays) -> str | None:
        raise KeyError(trial.number)

    def load(
        self, trials: Iterable[LeasedTrial], _check: Callable[[SessionState], None]
    ) -> dict[int, SessionState]:
        return {
            trial.number: _state(trial.checkpoint.epoch) for trial in trials if trial.checkpoint is not None
        }


def _state(epochs: int) -> SessionState:
    return SessionState(epochs, {}, {})


class EveryFaultEnds:
    """Faults of a replay, which has no device: every error is one of the program."""

    def is_out_of_memory(self, _error: BaseException) -> bool:
        return False

    def is_contained(self, _error: BaseException) -> bool:
        return False

    def is_broken(self, _error: BaseException) -> bool:
        return True

    def is_taken_by_others(self) -> bool:
        return False

    def memory_used(self) -> str:
        return "nothing used"

    def release_memory(self) -> None:
        pass


@contextmanager
def nothing_beside(_look: Callable[[], object]) -> Iterator[None]:
    yield
