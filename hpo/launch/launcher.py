"""Starts worker processes, one per slot, and keeps them: logs, restarts, a standby, the end of all."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from uuid import uuid4

from hpo.errors import HpoError
from hpo.launch.process import REAP_SECONDS, WorkerProcess
from hpo.launch.restarts import Restarts
from hpo.launch.slot import Slot, common_environment
from hpo.launch.standby import Assignment
from hpo.store.retry import until_available

log = logging.getLogger("hpo.launch")

POLL_SECONDS = 0.2

GRACE_SECONDS = 12.0
"""How long workers get to save where they are and hand back their trials before they are killed."""

SETTLE_SECONDS = 3.0
"""How long the end of all waits for the storage to take back the trials of those that were killed."""

LAST_WORDS_SECONDS = 3.0
"""How long the end waits for the last lines of each process."""

START_SECONDS = 20.0
"""A worker that has said nothing for so long has started, and found nothing to train."""

STANDBY_SECONDS = 20.0
"""For so long there is no standby: it takes three seconds of a core from the workers, and most searches that
are over by then lose nobody."""


@dataclass
class _Place:
    """Where a worker runs: a slot, and what became of the workers there.

    `settled` follows the end of `child`: whether trials are left to do.
    """

    slot: Slot
    label: str
    child: WorkerProcess | None = None
    settled: Future[bool] | None = None
    restarts: Restarts = field(default_factory=Restarts)


class Launcher:
    """Worker processes for one study, and one more that takes the place of the first one that dies.

    Nothing here waits for the storage but threads of its own, so workers are watched while it is away.
    """

    def __init__(
        self,
        command: Sequence[str],
        slots: Sequence[Slot],
        settle: Callable[[str], bool],
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`command`: what starts a worker, without device and name. `settle` takes the name of a worker that
        has ended: it frees its trials and gives whether trials are left to do. `write` takes lines."""
        self._command, self._settle, self._write, self._clock = list(command), settle, write, clock
        self._places = [_Place(slot, f"{slot.label}/{number}") for number, slot in enumerate(slots)]
        self._environment = common_environment(slots)
        self._standby: WorkerProcess | None = None
        self._standby_restarts: Restarts | None = Restarts()  # None: there is no use in another one
        self._since = clock()
        self._children: list[WorkerProcess] = []
        self._changed, self._stopping = threading.Event(), threading.Event()

    def run(self) -> None:
        """Runs all workers to their end. Stops them on an interrupt, which raises `KeyboardInterrupt`."""
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            for place in self._places:
                place.child = self._start(place)
            while any(place.child for place in self._places):
                self._changed.wait(POLL_SECONDS)
                self._changed.clear()
                for place in self._places:
                    self._tend(place)
                self._keep_standby()
        finally:
            self._stop()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _start(self, place: _Place) -> WorkerProcess:
        return self._spawn(place.label, place.slot.environment, "--device", place.slot.device)

    def _spawn(self, label: str, environment: Mapping[str, str], *options: str) -> WorkerProcess:
        worker = f"{label}-{uuid4().hex[:8]}"
        child = WorkerProcess(
            worker,
            label,
            [*self._command, "--name", worker, "--lifeline", *options],
            environment,
            self._write,
            self._changed,
            self._clock(),
        )
        self._children.append(child)
        return child

    def _tend(self, place: _Place) -> None:
        """Settles the end of a worker, then starts its successor: it is to find the trials free."""
        if place.child is None or place.child.code is None:
            return
        if place.settled is None:
            place.settled = self._settled(place.child)
        elif place.settled.done():
            place.child, place.settled = self._successor(place, place.child, place.settled), None

    def _settled(self, child: WorkerProcess) -> Future[bool]:
        future: Future[bool] = Future()
        future.add_done_callback(lambda _: self._changed.set())

        def settle() -> None:
            try:
                future.set_result(until_available(lambda: self._settle(child.worker), self._stopping, log))
            except BaseException as error:
                future.set_exception(error)

        # A daemon: at the end of all, nobody waits for a connection that does not come about.
        threading.Thread(target=settle, name=f"end of {child.worker}", daemon=True).start()
        return future

    def _successor(self, place: _Place, child: WorkerProcess, settled: Future[bool]) -> WorkerProcess | None:
        code = child.code
        assert code is not None
        if not _is_open(child, settled):
            if code != 0:
                self._write(f"[{place.label}] worker {_how(code)}; nothing is left to do")
            return None
        again = place.restarts.after(code, self._clock() - child.since)
        if again is None:
            self._write(f"[{place.label}] worker {_how(code)}; it is not started again")
            return None
        standby, self._standby = self._standby, None
        assignment = Assignment(place.slot.device, place.slot.environment)
        if standby is not None and standby.assign(assignment, place.label, self._clock()):
            self._write(f"[{place.label}] worker {_how(code)}; {standby.worker} takes its place ({again})")
            return standby
        self._write(f"[{place.label}] worker {_how(code)}; starting it again ({again})")
        return self._start(place)

    def _keep_standby(self) -> None:
        """Sees to it that there is a standby, once the workers can spare what its start takes."""
        if self._standby is not None and self._standby.code is not None:
            self._lose_standby(self._standby, self._standby.code)
        if self._standby is None and self._standby_restarts is not None and self._are_at_work():
            self._standby = self._spawn("standby", self._environment, "--standby")

    def _are_at_work(self) -> bool:
        """Whether the workers have had `STANDBY_SECONDS` for themselves and none of them is starting."""
        now = self._clock()
        running = [place.child for place in self._places if place.child is not None]
        started = (child.said or now - child.since >= START_SECONDS for child in running)
        return bool(running) and now - self._since >= STANDBY_SECONDS and all(started)

    def _lose_standby(self, child: WorkerProcess, code: int) -> None:
        assert self._standby_restarts is not None
        again = self._standby_restarts.after(code, self._clock() - child.since)
        if again is None:
            self._standby_restarts = None
        then = "it is not started again" if again is None else f"starting it again ({again})"
        self._write(f"[standby] {_how(code)}; {then}")
        self._standby = None

    def _stop(self) -> None:
        """Ends all, once: an interrupt in the middle of it would leave processes behind."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._stopping.set()
        left = [(place, place.child) for place in self._places if place.child is not None]
        for _, child in left:
            child.stop()
        if self._standby is not None:
            self._standby.kill()
        deadline = time.monotonic() + GRACE_SECONDS
        late = [child for _, child in left if not child.wait(max(0.0, deadline - time.monotonic()))]
        for child in late:
            self._write(f"[{child.label}] worker did not stop in {GRACE_SECONDS:.0f} s and is killed")
            child.kill()
        deadline = time.monotonic() + REAP_SECONDS
        for child in [*late, *([self._standby] if self._standby else [])]:
            child.wait(max(0.0, deadline - time.monotonic()))
        settled = {place.settled or self._settled(child): child for place, child in left}
        wait(settled, SETTLE_SECONDS)
        for future, child in settled.items():
            error = future.exception() if future.done() else "the storage does not answer"
            if error is not None:
                log.warning("the trials of %s are free when their leases end: %s", child.worker, error)
        for child in self._children:
            child.join_output(LAST_WORDS_SECONDS)


def _is_open(child: WorkerProcess, settled: Future[bool]) -> bool:
    """Whether trials are left to do; where that cannot be known, a worker will see."""
    try:
        return settled.result()
    except HpoError as error:
        log.warning("after the end of %s: %s", child.worker, error)
        return True


def _how(code: int) -> str:
    if code == 0:
        return "ended early"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
