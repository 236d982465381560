"""Start one worker process per slot and keep them running: logs, restarts, a standby, the shutdown."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from uuid import uuid4

from hpo.errors import HpoError
from hpo.launch.process import ProcessSpec, WorkerProcess
from hpo.launch.restarts import Restarts
from hpo.launch.slot import Slot, common_environment
from hpo.launch.standby import Assignment
from hpo.launch.timing import Timing
from hpo.store.retry import until_available

log = logging.getLogger("hpo.launch")

TIMING = Timing()


@dataclass
class _SlotState:
    """A slot and its worker.

    `reclaim` runs after `process` has ended. Its result is whether the study has an open trial.
    """

    slot: Slot
    label: str
    process: WorkerProcess | None = None
    reclaim: Future[bool] | None = None
    restarts: Restarts = field(default_factory=Restarts)


class Launcher:
    """Worker processes of one study, and a standby that replaces the first worker that dies.

    Separate threads wait for the storage, so that workers are watched while it is away.
    """

    def __init__(
        self,
        command: Sequence[str],
        slots: Sequence[Slot],
        reclaim: Callable[[str], bool],
        write: Callable[[str], None],
        timing: Timing = TIMING,
    ) -> None:
        """Make a launcher.

        `command` starts a worker; the launcher appends its name and device. `reclaim` takes the name of a
        worker that has ended, frees its trials, and returns whether the study has an open trial. `write`
        takes a line.
        """
        self._command, self._reclaim, self._write = list(command), reclaim, write
        self._timing, self._clock = timing, timing.clock
        self._states = [_SlotState(slot, f"{slot.label}/{number}") for number, slot in enumerate(slots)]
        self._environment = common_environment(slots)
        self._standby: WorkerProcess | None = None
        self._standby_restarts: Restarts | None = Restarts()  # None: no further standby is started
        self._started_at = self._clock()
        self.processes: list[WorkerProcess] = []
        """All processes that were started, also those that have ended."""
        self._changed, self._stopping = threading.Event(), threading.Event()

    def run(self) -> None:
        """Run until all workers have ended. Stop them on an interrupt, and raise `KeyboardInterrupt`."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            for state in self._states:
                state.process = self._start(state)
            while any(state.process for state in self._states):
                self._changed.wait(self._timing.poll_seconds)
                self._changed.clear()
                for state in self._states:
                    self._replace_ended(state)
                self._keep_standby()
        finally:
            self._stop()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _start(self, state: _SlotState) -> WorkerProcess:
        return self._spawn(state.label, state.slot.environment, "--device", state.slot.device)

    def _spawn(self, label: str, environment: Mapping[str, str], *options: str) -> WorkerProcess:
        worker = f"{label}-{uuid4().hex[:8]}"
        command = [*self._command, "--name", worker, "--lifeline", *options]
        spec = ProcessSpec(worker, label, command, environment)
        process = WorkerProcess(spec, self._write, self._changed, self._clock())
        self.processes.append(process)
        return process

    def _replace_ended(self, state: _SlotState) -> None:
        """Reclaim the trials of a worker that has ended, then start its successor, which finds them free."""
        if state.process is None or state.process.code is None:
            return
        if state.reclaim is None:
            state.reclaim = self._start_reclaim(state.process)
        elif state.reclaim.done():
            state.process, state.reclaim = self._successor(state, state.process, state.reclaim), None

    def _start_reclaim(self, process: WorkerProcess) -> Future[bool]:
        future: Future[bool] = Future()
        future.add_done_callback(lambda _: self._changed.set())

        def reclaim() -> None:
            try:
                future.set_result(until_available(lambda: self._reclaim(process.worker), self._stopping, log))
            except BaseException as error:
                future.set_exception(error)

        # A daemon, so that the shutdown does not wait for a connection that cannot be made.
        threading.Thread(target=reclaim, name=f"end of {process.worker}", daemon=True).start()
        return future

    def _successor(
        self, state: _SlotState, process: WorkerProcess, reclaim: Future[bool]
    ) -> WorkerProcess | None:
        """Return the next worker of a slot: the standby or a new process. None: the slot stays empty."""
        code = process.code
        assert code is not None
        if not _is_open(process, reclaim):
            if code != 0:
                self._write(f"[{state.label}] worker {_describe_exit(code)}; nothing is left to do")
            return None
        restart = state.restarts.after(code, self._clock() - process.started_at)
        if restart is None:
            self._write(f"[{state.label}] worker {_describe_exit(code)}; it is not started again")
            return None
        standby, self._standby = self._standby, None
        assignment = Assignment(state.slot.device, state.slot.environment)
        if standby is not None and standby.assign(assignment, state.label, self._clock()):
            self._write(
                f"[{state.label}] worker {_describe_exit(code)}; {standby.worker} takes its place ({restart})"
            )
            return standby
        self._write(f"[{state.label}] worker {_describe_exit(code)}; starting it again ({restart})")
        return self._start(state)

    def _keep_standby(self) -> None:
        """Start a standby if there is none and all workers have started."""
        if self._standby is not None and self._standby.code is not None:
            self._lose_standby(self._standby, self._standby.code)
        if self._standby is None and self._standby_restarts is not None and self._workers_have_started():
            self._standby = self._spawn("standby", self._environment, "--standby")

    def _workers_have_started(self) -> bool:
        """Return whether `standby_seconds` have passed and no worker is starting."""
        now = self._clock()
        running = [state.process for state in self._states if state.process is not None]
        started = (
            process.has_output or now - process.started_at >= self._timing.start_seconds
            for process in running
        )
        return bool(running) and now - self._started_at >= self._timing.standby_seconds and all(started)

    def _lose_standby(self, process: WorkerProcess, code: int) -> None:
        assert self._standby_restarts is not None
        restart = self._standby_restarts.after(code, self._clock() - process.started_at)
        if restart is None:
            self._standby_restarts = None
        then = "it is not started again" if restart is None else f"starting it again ({restart})"
        self._write(f"[standby] {_describe_exit(code)}; {then}")
        self._standby = None

    def _stop(self) -> None:
        """Stop all processes, without interruption: an interrupt here would leave processes behind."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._stopping.set()
        states = [(state, state.process) for state in self._states if state.process is not None]
        for _, process in states:
            process.stop()
        if self._standby is not None:
            self._standby.kill()
        self._kill_late([process for _, process in states])
        reclaims = {state.reclaim or self._start_reclaim(process): process for state, process in states}
        wait(reclaims, self._timing.reclaim_seconds)
        for future, process in reclaims.items():
            error = future.exception() if future.done() else "the storage does not answer"
            if error is not None:
                log.warning("the trials of %s are free when their leases end: %s", process.worker, error)
        for process in self.processes:
            process.join_output(self._timing.output_seconds)

    def _kill_late(self, stopped: Sequence[WorkerProcess]) -> None:
        """Wait for stopped workers, kill those that do not end in time, and wait for all killed processes."""
        grace = self._timing.grace_seconds
        deadline = time.monotonic() + grace
        late = [process for process in stopped if not process.wait(max(0.0, deadline - time.monotonic()))]
        for process in late:
            self._write(f"[{process.label}] worker did not stop in {grace:.0f} s and is killed")
            process.kill()
        deadline = time.monotonic() + self._timing.kill_seconds
        for process in [*late, *([self._standby] if self._standby else [])]:
            process.wait(max(0.0, deadline - time.monotonic()))


def _is_open(process: WorkerProcess, reclaim: Future[bool]) -> bool:
    """Return whether the study has an open trial. True if this is unknown: a new worker will find out."""
    try:
        return reclaim.result()
    except HpoError as error:
        log.warning("after the end of %s: %s", process.worker, error)
        return True


def _describe_exit(code: int) -> str:
    if code == 0:
        return "ended early"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
