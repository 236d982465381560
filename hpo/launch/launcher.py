"""Start one worker per slot and keep them running: logs, restarts, a standby, the shutdown."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from hpo.errors import HpoError
from hpo.launch.executors.base import Executor, WorkerCommand
from hpo.launch.launched_worker import LaunchedStandby, LaunchedWorker
from hpo.launch.output import Output
from hpo.launch.restarts import Restarts
from hpo.launch.signals import InterruptSignals
from hpo.launch.slot import Slot
from hpo.launch.timing import Timing
from hpo.store.retry import until_available

log = logging.getLogger("hpo.launch")

TIMING = Timing()


@dataclass
class _SlotState:
    """A slot and its worker.

    `reclaim` runs after `worker` has ended. Its result is whether the study has an open trial.
    """

    slot: Slot
    label: str
    worker: LaunchedWorker | None = None
    reclaim: Future[bool] | None = None
    restarts: Restarts = field(default_factory=Restarts)


class Launcher:
    """The workers of one study, and a standby that replaces the first worker that dies.

    Separate threads wait for the storage, so that workers are watched while it is away.
    """

    def __init__(
        self,
        executor: Executor,
        command: WorkerCommand,
        reclaim: Callable[[str], bool],
        output: Output,
        timing: Timing = TIMING,
    ) -> None:
        """Make a launcher that starts a worker in each slot of `executor`.

        `reclaim` takes the name of a worker that has ended, frees its trials, and returns whether the study
        has an open trial. `output` takes the lines of the launcher and of the workers.
        """
        self._executor, self._command = executor, command
        self._reclaim, self._write, self._hear = reclaim, output.write, output.hear
        self._timing, self._clock = timing, timing.clock
        self._states = [
            _SlotState(slot, f"{slot.label}/{number}") for number, slot in enumerate(executor.slots)
        ]
        self._standby: LaunchedStandby | None = None
        self._standby_restarts: Restarts | None = Restarts()  # None: no further standby is started
        self._started_at = self._clock()
        self.workers: list[LaunchedWorker] = []
        """All workers that were started, also those that have ended."""
        self._changed, self._stopping = threading.Event(), threading.Event()

    def run(self) -> None:
        """Run until all workers have ended. Stop them on an interrupt, and raise `KeyboardInterrupt`.

        An interrupt reaches the main thread only. In another thread, the workers end with the study.
        """
        with InterruptSignals() as signals:
            try:
                for state in self._states:
                    state.worker = self._start(state)
                while any(state.worker for state in self._states):
                    self._changed.wait(self._timing.poll_seconds)
                    self._changed.clear()
                    for state in self._states:
                        self._replace_ended(state)
                    self._keep_standby()
            finally:
                signals.ignore()  # an interrupt while workers are stopped would leave workers behind
                self._stop()

    def _start(self, state: _SlotState) -> LaunchedWorker:
        worker = LaunchedWorker(state.label, self._hear, self._changed, self._clock())
        worker.handle = self._executor.start(worker.name, self._command, state.slot, worker.listener)
        self.workers.append(worker)
        return worker

    def _start_standby(self) -> LaunchedStandby | None:
        standby = LaunchedStandby("standby", self._hear, self._changed, self._clock())
        handle = self._executor.start_standby(standby.name, self._command, standby.listener)
        if handle is None:
            self._standby_restarts = None
            return None
        standby.handle = handle
        self.workers.append(standby)
        return standby

    def _replace_ended(self, state: _SlotState) -> None:
        """Reclaim the trials of a worker that has ended, then start its successor, which finds them free."""
        if state.worker is None or state.worker.code is None:
            return
        if state.reclaim is None:
            state.reclaim = self._start_reclaim(state.worker)
        elif state.reclaim.done():
            state.worker, state.reclaim = self._successor(state, state.worker, state.reclaim), None

    def _start_reclaim(self, worker: LaunchedWorker) -> Future[bool]:
        future: Future[bool] = Future()
        future.add_done_callback(lambda _: self._changed.set())

        def reclaim() -> None:
            try:
                future.set_result(until_available(lambda: self._reclaim(worker.name), self._stopping, log))
            except BaseException as error:
                future.set_exception(error)

        # A daemon, so that the shutdown does not wait for a connection that cannot be made.
        threading.Thread(target=reclaim, name=f"end of {worker.name}", daemon=True).start()
        return future

    def _successor(
        self, state: _SlotState, worker: LaunchedWorker, reclaim: Future[bool]
    ) -> LaunchedWorker | None:
        """Return the next worker of a slot: the standby or a new one. None: the slot stays empty."""
        code = worker.code
        assert code is not None
        if not _is_open(worker, reclaim):
            if code != 0:
                self._write(f"[{state.label}] worker {_describe_exit(code)}; nothing is left to do")
            return None
        restart = state.restarts.after(code, self._clock() - worker.started_at)
        if restart is None:
            self._write(f"[{state.label}] worker {_describe_exit(code)}; it is not started again")
            return None
        standby, self._standby = self._standby, None
        if standby is not None and standby.take(state.slot, state.label, self._clock()):
            self._write(
                f"[{state.label}] worker {_describe_exit(code)}; {standby.name} takes its place ({restart})"
            )
            return standby
        self._write(f"[{state.label}] worker {_describe_exit(code)}; starting it again ({restart})")
        return self._start(state)

    def _keep_standby(self) -> None:
        """Start a standby if there is none and all workers have started."""
        if self._standby is not None and self._standby.code is not None:
            self._lose_standby(self._standby, self._standby.code)
        if self._standby is None and self._standby_restarts is not None and self._workers_have_started():
            self._standby = self._start_standby()

    def _workers_have_started(self) -> bool:
        """Return whether `standby_seconds` have passed and no worker is starting."""
        now = self._clock()
        running = [state.worker for state in self._states if state.worker is not None]
        started = (
            worker.has_output or now - worker.started_at >= self._timing.start_seconds for worker in running
        )
        return bool(running) and now - self._started_at >= self._timing.standby_seconds and all(started)

    def _lose_standby(self, worker: LaunchedWorker, code: int) -> None:
        assert self._standby_restarts is not None
        restart = self._standby_restarts.after(code, self._clock() - worker.started_at)
        if restart is None:
            self._standby_restarts = None
        then = "it is not started again" if restart is None else f"starting it again ({restart})"
        self._write(f"[standby] {_describe_exit(code)}; {then}")
        self._standby = None

    def _stop(self) -> None:
        """Stop all workers: ask them to end, kill those that are late, reclaim trials, join the output."""
        self._stopping.set()
        states = [(state, state.worker) for state in self._states if state.worker is not None]
        for _, worker in states:
            worker.handle.stop()
        if self._standby is not None:
            self._standby.handle.kill()
        self._kill_late([worker for _, worker in states])
        reclaims = {state.reclaim or self._start_reclaim(worker): worker for state, worker in states}
        wait(reclaims, self._timing.reclaim_seconds)
        for future, worker in reclaims.items():
            error = future.exception() if future.done() else "the storage does not answer"
            if error is not None:
                log.warning("the trials of %s are free when their leases end: %s", worker.name, error)
        for worker in self.workers:
            worker.handle.join_output(self._timing.output_seconds)

    def _kill_late(self, stopped: Sequence[LaunchedWorker]) -> None:
        """Wait for stopped workers, kill those that do not end in time, and wait for all killed ones."""
        grace = self._timing.grace_seconds
        deadline = time.monotonic() + grace
        late = [w for w in stopped if not w.handle.wait(max(0.0, deadline - time.monotonic()))]
        for worker in late:
            self._write(f"[{worker.label}] worker did not stop in {grace:.0f} s and is killed")
            worker.handle.kill()
        deadline = time.monotonic() + self._timing.kill_seconds
        for worker in [*late, *([self._standby] if self._standby else [])]:
            worker.handle.wait(max(0.0, deadline - time.monotonic()))


def _is_open(worker: LaunchedWorker, reclaim: Future[bool]) -> bool:
    """Return whether the study has an open trial. True if this is unknown: a new worker will find out."""
    try:
        return reclaim.result()
    except HpoError as error:
        log.warning("after the end of %s: %s", worker.name, error)
        return True


def _describe_exit(code: int) -> str:
    if code == 0:
        return "ended early"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
