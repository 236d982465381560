"""Sessions that do nothing: epochs take no time, and losses follow from the number of the trial."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from hpo.values.candidate import Candidate
from hpo.values.epoch import TRAIN_LOSS, VALIDATION_ACCURACY, VALIDATION_LOSS, EpochResult
from hpo.values.parameters import PackKey
from hpo.values.stage import Stage
from hpo.values.state import Arrays, SessionState
from hpo.worker.context import WorkerContext
from hpo.worker.interruption import Interruption


@dataclass(frozen=True, slots=True)
class NullTraining:
    """Trains nothing: `loss` gives the loss of a trial by its number and epoch."""

    epochs: int
    loss: Callable[[int, int], float]

    def trainers(self, _context: WorkerContext, _interruption: Interruption) -> "NullTraining":
        return self

    def faults(self, _device: str) -> "NullFaults":
        return NullFaults()

    def make(self, _stage: Stage, _key: PackKey) -> "NullTraining":
        return self

    def prepare(self) -> None:
        pass

    def start(
        self, candidates: Mapping[int, Candidate], states: Mapping[int, SessionState] | None = None
    ) -> "NullSession":
        session = NullSession(self)
        session.join(candidates, states or {})
        return session


class NullSession:
    """Members that have no state, so that there is nothing to write into a checkpoint."""

    phase = 0

    def __init__(self, training: NullTraining) -> None:
        """Create a session without members."""
        self._training = training
        self._epochs: dict[int, int] = {}

    @property
    def members(self) -> list[int]:
        return sorted(self._epochs)

    def join(self, candidates: Mapping[int, Candidate], _states: Mapping[int, SessionState]) -> None:
        self._epochs |= dict.fromkeys(candidates, 0)

    def check(self, state: SessionState) -> None:
        pass

    def epoch(self) -> list[EpochResult]:
        self._epochs = {key: epoch + 1 for key, epoch in self._epochs.items()}
        results = [self._result(key) for key in self.members]
        self.drop([result.member for result in results if result.status == "finished"])
        return results

    def states(self, _keys: Collection[int] | None = None) -> dict[int, SessionState]:
        return {}

    def weights(self, key: int) -> Arrays:
        raise KeyError(key)

    def drop(self, keys: Collection[int]) -> None:
        self._epochs = {key: epoch for key, epoch in self._epochs.items() if key not in keys}

    def _result(self, key: int) -> EpochResult:
        epoch = self._epochs[key]
        loss = self._training.loss(key, epoch)
        return EpochResult(
            member=key,
            epoch=epoch,
            metrics={TRAIN_LOSS: loss, VALIDATION_LOSS: loss, VALIDATION_ACCURACY: 0.5},
            seconds=0.0,
            evaluation_seconds=0.0,
            status="finished" if epoch == self._training.epochs else "training",
            kept_epoch=epoch,
        )


class NullFaults:
    """Every error ends the worker."""

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
