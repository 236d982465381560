"""One trial of a training function: its process, its commits, and the epoch that counts."""

import logging
import math
import signal
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from hpo.functions.channel import Message
from hpo.functions.encoding import check_arrays
from hpo.functions.failures import FunctionFailure, FunctionKilledError
from hpo.functions.process import FunctionProcess
from hpo.functions.spares import FunctionProcesses
from hpo.functions.task import FunctionRuntime, FunctionTask
from hpo.functions.trial_folder import Commit, LazyArrays, TrialFolder
from hpo.functions.waiting import EpochWait
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult
from hpo.values.objective import Objective
from hpo.values.state import Arrays, SessionState, StateError

log = logging.getLogger("hpo.worker")

SAVED, BEST = "saved/", "best/"
"""How the names of the arrays of a state begin. The second are those of the best epoch, if it is another."""

METRICS, BEST_EPOCH, BEST_METRICS = "metrics", "best_epoch", "best_metrics"
"""The other values of a state."""


class RunningTrial:
    """A trial that a function trains.

    The trial resumes from the last epoch that saved a state. In full training, the epoch that counts is the
    best of the epochs that saved a state, or of all if none did: only a saved epoch can be given to a user.
    """

    def __init__(
        self,
        number: int,
        candidate: Candidate,
        task: FunctionTask,
        processes: FunctionProcesses,
        runtime: FunctionRuntime,
    ) -> None:
        """Create a trial that starts with its first epoch."""
        self._number, self._candidate, self._task = number, candidate, task
        self._processes, self._runtime = processes, runtime
        self._folder = TrialFolder(processes.folder, f"{task.stage}-{number}-")
        self._process: FunctionProcess | None = None
        self._last: Commit | None = None
        self._saved: Commit | None = None
        self._best: Commit | None = None
        self._furthest = self._kills = 0

    def resume(self, state: SessionState) -> None:
        """Start after the epoch of a state that passes `check_state`."""
        meta, write = state.meta, self._folder.write
        self._saved = write("saved", state.epochs, meta[METRICS], _part(SAVED, state.arrays))
        self._last = self._best = self._saved
        if best := _part(BEST, state.arrays):
            self._best = write("best", meta[BEST_EPOCH], meta[BEST_METRICS], best)
        self._furthest = state.epochs

    @property
    def state(self) -> SessionState | None:
        """Return the state that the trial resumes from, None if no epoch has saved a state."""
        saved, best = self._saved, self._best
        if saved is None:
            return None
        meta: dict[str, Any] = {METRICS: dict(saved.metrics)}
        parts = {SAVED: saved}
        if best is not None and best.epoch < saved.epoch:
            meta |= {BEST_EPOCH: best.epoch, BEST_METRICS: dict(best.metrics)}
            parts[BEST] = best
        return SessionState(saved.epoch, LazyArrays(partial(self._read, parts)), meta)

    @property
    def weights(self) -> Arrays:
        """Return the state and the files of the epoch that counts, as `encode` returns them."""
        return {} if self._best is None else self._folder.read(self._best)

    def epoch(self) -> EpochResult:
        """Train the next epoch.

        Raises `FunctionFailure` if the function fails, and what the runtime's `interrupt` raises.
        """
        clock = self._runtime.clock
        start, wait = clock(), EpochWait(self._runtime)
        while True:
            try:
                message = self._next(wait)
            except FunctionKilledError as killed:
                self._start_over(killed)
            else:
                return self._result(message, clock() - start)

    def end(self) -> None:
        """Let the function close what it has open between two epochs, and end its process."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def remove(self) -> None:
        """End the process, and delete the files of the trial."""
        self.end()
        self._folder.remove()

    def _next(self, wait: EpochWait) -> Message:
        """Let the function go on, and return what it commits next."""
        process = self._process
        if process is None:
            process = self._process = self._start()
        else:
            process.send({"go": True})
        try:
            message = wait.receive(process)
            if "ready" in message:
                self._task.check_code(message["code"])
                self._processes.start_spare()
                message = wait.receive(process)
        except BaseException:
            self._process = None
            process.kill()
            raise
        return message

    def _start(self) -> FunctionProcess:
        self._folder.restore(self._saved)
        process, task, saved = self._processes.take(), self._task, self._saved
        process.send(
            {
                "trial": {
                    "params": dict(self._candidate.params),
                    "budget": task.epochs,
                    "stage": task.stage,
                    "seed": self._candidate.seed,
                    "device": task.device,
                    "number": self._number,
                    "trained": 0 if saved is None else saved.epoch,
                },
                "objective": task.objective.key,
                "state": None if saved is None else saved.state,
                "folder": str(self._folder.commits),
                "directory": str(self._folder.directory),
            }
        )
        return process

    def _start_over(self, killed: FunctionKilledError) -> None:
        """Go back to the saved epoch. Raises `FunctionFailure` if that has happened too often."""
        self._kills += 1
        if self._kills >= self._runtime.limits.kills:
            times = f"{self._kills} times in a row, in epoch {self._furthest + 1}"
            hint = "; is there enough memory?" if str(killed) == signal.SIGKILL.name else ""
            raise FunctionFailure(f"its process was killed by {killed} {times}{hint}") from killed
        saved = self._saved
        self._last = saved
        if saved is None:
            self._best = None
        log.warning(
            "%s: the process of trial %d was killed by %s; the trial goes on after epoch %d",
            self._task.stage,
            self._number,
            killed,
            0 if saved is None else saved.epoch,
        )

    def _result(self, message: Message, seconds: float) -> EpochResult:
        commit, objective = self._commit(message), self._task.objective
        value = objective.of(commit.metrics)
        is_finite = math.isfinite(value)
        if is_finite:
            self._keep(commit)
        if commit.epoch > self._furthest:
            self._furthest, self._kills = commit.epoch, 0
        is_last = bool(message["is_last"])
        if is_last or not is_finite:
            self.end()
        return EpochResult(
            member=self._number,
            epoch=commit.epoch,
            metrics=commit.metrics,
            seconds=seconds,
            evaluation_seconds=0.0,
            status="diverged" if not is_finite else "finished" if is_last else "training",
            kept_epoch=commit.epoch if self._best is None else self._best.epoch,
        )

    def _commit(self, message: Message) -> Commit:
        """Return the commit in a message. At the end of a function, it replaces that of the last epoch."""
        epoch, metrics, state = message["epoch"], message["metrics"], message["state"]
        trained = 0 if self._last is None else self._last.epoch
        if epoch != trained + (metrics is not None) or epoch > self._task.epochs:
            self.end()
            raise FunctionFailure(f"its process committed epoch {epoch} after epoch {trained}")
        if metrics is None:
            assert self._last is not None, "a function without any epoch fails"
            metrics, state = self._last.metrics, state or self._last.state
        key = self._task.objective.key
        metrics = {name: value for name, value in metrics.items() if name == key or math.isfinite(value)}
        return Commit(epoch, metrics, state, message["files"])

    def _keep(self, commit: Commit) -> None:
        """Remember what a later step may need of a commit, and delete all other files."""
        self._last = commit
        if commit.state is not None:
            self._saved = commit
        if self._is_best(commit):
            self._best = commit
        kept = (self._last, self._saved, self._best)
        self._folder.keep({name for each in kept if each is not None for name in each.names})

    def _is_best(self, commit: Commit) -> bool:
        best, cost_of = self._best, self._task.objective.cost_of
        if best is None or self._task.keep == "last" or commit.epoch == best.epoch:
            return True
        if (commit.state is None) != (best.state is None):
            return commit.state is not None
        return cost_of(commit.metrics) < cost_of(best.metrics)

    def _read(self, parts: Mapping[str, Commit]) -> dict[str, np.ndarray]:
        return {
            prefix + name: array
            for prefix, commit in parts.items()
            for name, array in self._folder.read(commit).items()
        }


def check_state(state: SessionState, objective: Objective) -> None:
    """Raise `StateError` unless `RunningTrial.resume` can take the state."""
    arrays, meta = state.arrays, state.meta
    try:
        check_arrays(_part(SAVED, arrays))
        objective.of(meta[METRICS])
        if best := _part(BEST, arrays):
            check_arrays(best)
            objective.of(meta[BEST_METRICS])
            int(meta[BEST_EPOCH])
    except (KeyError, TypeError, ValueError) as error:
        raise StateError("it is no state of a training function with this objective") from error


def _part(prefix: str, arrays: Arrays) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
