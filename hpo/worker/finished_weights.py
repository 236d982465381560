"""The weights of finished full trainings, until they are written."""

from collections.abc import Callable, Collection, Mapping, Sequence

from hpo.study.schedule import LeasedTrial
from hpo.values.epoch import EpochResult
from hpo.values.state import Arrays
from hpo.worker.reporter import Reporter
from hpo.worker.runtime import Runtime
from hpo.worker.study_files import Checkpoints


class FinishedWeights:
    """Finished full trainings whose weights are not written yet, by number.

    A full training is reported as finished only after its weights are written.
    """

    def __init__(self, checkpoints: Checkpoints, reporter: Reporter, runtime: Runtime) -> None:
        self._checkpoints, self._reporter = checkpoints, reporter
        self._clock, self._limit = runtime.clock, runtime.limits.loop.unsaved_seconds
        self._waiting: dict[int, EpochResult] = {}
        self._failed_since: float | None = None
        self._tried_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, number: int) -> bool:
        return number in self._waiting

    @property
    def is_stuck(self) -> bool:
        """Whether nothing could be written for longer than a worker may wait."""
        return self._failed_since is not None and self._tried_at - self._failed_since >= self._limit

    def describe(self) -> str:
        """Name the trials and the time, for the message of a worker that gives up."""
        numbers = ", ".join(map(str, self._waiting))
        return f"the weights of {numbers} could not be saved for {self._limit:g} s"

    def add(self, results: Sequence[EpochResult]) -> None:
        """Add those of the results that finish a training."""
        self._waiting |= {result.member: result for result in results if result.status == "finished"}

    def drop(self, numbers: Collection[int]) -> None:
        """Forget trainings that have left the pack."""
        for number in numbers:
            self._waiting.pop(number, None)

    def pop(self, numbers: Collection[int]) -> list[EpochResult]:
        """Return the results of these trainings, and forget them."""
        return [self._waiting.pop(number) for number in numbers]

    def save(self, trials: Mapping[int, LeasedTrial], weights: Callable[[int], Arrays]) -> dict[int, str]:
        """Write what can be written; return the names of the files, by number."""
        saved: dict[int, str] = {}
        start = self._tried_at = self._clock()
        for number in self._waiting:
            name = self._checkpoints.save_weights(trials[number], weights(number))
            if name is None:
                break
            saved[number] = name
        if len(saved) == len(self._waiting):
            self._failed_since = None
        elif self._failed_since is None:
            self._failed_since = start
        if self._waiting:
            self._reporter.spend("checkpoints", self._clock() - start, list(self._waiting))
        return saved
