"""Sessions of a user's training function: one trial, in a process of its own."""

from collections.abc import Collection, Mapping

from hpo.functions.failures import FunctionFailure
from hpo.functions.running import RunningTrial, check_state
from hpo.functions.spares import FunctionProcesses
from hpo.functions.task import FunctionRuntime, FunctionTask
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult
from hpo.values.state import Arrays, SessionState


class FunctionSession:
    """A session of one trial at a time, which shares its computation with no other."""

    phase = 0

    def __init__(self, task: FunctionTask, processes: FunctionProcesses, runtime: FunctionRuntime) -> None:
        """Create a session without members."""
        self._task, self._processes, self._runtime = task, processes, runtime
        self._training: dict[int, RunningTrial] = {}
        self._finished: dict[int, RunningTrial] = {}

    @property
    def members(self) -> list[int]:
        """The keys of the members that have not finished."""
        return list(self._training)

    def check(self, state: SessionState) -> None:
        """Raise `StateError` if no trial can resume from the state."""
        check_state(state, self._task.objective)

    def join(self, candidates: Mapping[int, Candidate], states: Mapping[int, SessionState]) -> None:
        """Add a member. Its process starts with its next epoch."""
        if len(self._training) + len(candidates) > 1:
            raise ValueError("a session of a function has one member")
        for key, candidate in candidates.items():
            trial = RunningTrial(key, candidate, self._task, self._processes, self._runtime)
            self._training[key] = trial
            if key in states:
                trial.resume(states[key])

    def epoch(self) -> list[EpochResult]:
        """Train an epoch. If it raises `FunctionFailure`, the trial cannot go on."""
        results = [trial.epoch() for trial in self._training.values()]
        for result in results:
            if result.status != "training":
                trial = self._training.pop(result.member)
                if result.status == "finished":
                    self._finished[result.member] = trial
                else:
                    trial.remove()
        return results

    def states(self, keys: Collection[int] | None = None) -> dict[int, SessionState]:
        """Return the states that members resume from; a member that has saved none is left out.

        The arrays are read on first use, which has to be before the next epoch.
        """
        states = {key: trial.state for key, trial in self._training.items() if keys is None or key in keys}
        return {key: state for key, state in states.items() if state is not None}

    def weights(self, key: int) -> Arrays:
        """Return state and files of the kept epoch of a finished member, see `hpo.functions.encoding`."""
        return self._finished[key].weights

    def drop(self, keys: Collection[int]) -> None:
        """Remove members, and end their processes."""
        for members in (self._training, self._finished):
            for key in [key for key in members if key in keys]:
                members.pop(key).remove()

    def close(self) -> None:
        """Remove all members."""
        self.drop([*self._training, *self._finished])


class FunctionTrainer:
    """Starts sessions of one stage. A session ends when the next one starts."""

    def __init__(self, task: FunctionTask, processes: FunctionProcesses, runtime: FunctionRuntime) -> None:
        self._task, self._processes, self._runtime = task, processes, runtime
        self._session: FunctionSession | None = None

    def prepare(self) -> None:
        """Do nothing: the process of a trial starts with its first epoch, whose time is limited."""

    def start(
        self, candidates: Mapping[int, Candidate], states: Mapping[int, SessionState] | None = None
    ) -> FunctionSession:
        """Return a session of at most one candidate."""
        self.close()
        self._session = FunctionSession(self._task, self._processes, self._runtime)
        self._session.join(candidates, states or {})
        return self._session

    def close(self) -> None:
        """End the session that was started last. The loop that had it may have raised."""
        if self._session is not None:
            self._session.close()
            self._session = None


class FunctionFaults:
    """Errors of functions, which leave the worker as it was."""

    def is_out_of_memory(self, _error: BaseException) -> bool:
        """Return False: a function that runs out of memory fails like any other, with its own reason."""
        return False

    def is_contained(self, error: BaseException) -> bool:
        """Return whether a function has failed in its own process."""
        return isinstance(error, FunctionFailure)

    def is_broken(self, error: BaseException) -> bool:
        """Return whether the worker has an error of its own."""
        return not isinstance(error, FunctionFailure)

    def is_taken_by_others(self) -> bool:
        return False

    def memory_used(self) -> str:
        return "unknown"

    def release_memory(self) -> None:
        """Do nothing: the memory of a function is free when its process has ended."""
