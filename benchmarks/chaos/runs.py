"""Run one study from start to end: without faults, or under the faults of a seed."""

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from benchmarks.chaos.faults import Schedule
from benchmarks.chaos.files import NAME
from benchmarks.chaos.invariants import EndState, read_end_state, violations
from benchmarks.chaos.server import connection
from benchmarks.chaos.system import ChaosError, EndedError, System
from hpo.errors import HpoError
from hpo.store.connection import open_url
from hpo.study.status import status
from hpo.study.stored import load

STUCK_SECONDS = 90.0
"""A run without a reported epoch for this long has failed."""

END_SECONDS = 240.0
"""A study without a reported epoch for this long must have ended. Its first epoch waits for compilers."""

EXIT_SECONDS = 10.0
"""Time after the end of the study for its last processes to exit, and for leases of killed ones to expire."""


@dataclass
class Outcome:
    """The outcome of one seed.

    `faults` holds seconds since the start and name of each fault. `recoveries` holds the seconds from the
    SIGKILL of a worker to the next claim of one of its trials.
    """

    seed: int
    faults: list[tuple[float, str]] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_without_faults(system: System) -> EndState:
    """Run the study and return its end state. Raises `ChaosError` if that breaks an invariant."""
    with _running(system):
        _await_end(system)
        state = _inspect(system)
    if lines := violations(state):
        raise ChaosError("without any fault: " + "; ".join(lines))
    return state


def run_with_faults(system: System, baseline: EndState, epochs: int, schedule: Schedule) -> Outcome:
    """Run the study under the faults of a schedule.

    `baseline` is the end state of a run without faults, `epochs` about how many epochs the run will have.
    """
    outcome, start = Outcome(schedule.seed), time.monotonic()
    # The study goes on while faults last. A third of its epochs are spread between the faults, so that they
    # all strike before its end.
    longest_gap = max(1, 2 * epochs // (3 * schedule.count))
    try:
        with _running(system):
            with suppress(EndedError):
                _inject(system, outcome, schedule, longest_gap)
            _await_end(system)
            system.end_faults(math.inf)
            system.violations += [*system.bad_lines(), *violations(_inspect(system), baseline)]
    except (ChaosError, HpoError) as error:
        system.violations.append(str(error))
    outcome.violations, outcome.recoveries = system.violations, system.recoveries
    outcome.seconds = time.monotonic() - start
    return outcome


@contextmanager
def _running(system: System) -> Iterator[None]:
    """Start the system, and kill whatever is left of it after the block."""
    try:
        system.start()
        yield
    finally:
        system.end_faults(math.inf)
        system.kill_all()


def _inject(system: System, outcome: Outcome, schedule: Schedule, longest_gap: int) -> None:
    """Inject the faults, each 1 to `longest_gap` epochs after the one before.

    Raises `EndedError` if the study ends before the last fault.
    """
    draw, start = random.Random(outcome.seed), time.monotonic()
    for name in schedule.names:
        _await_epochs(system, draw.randint(1, longest_gap))
        time.sleep(draw.random())  # otherwise every fault would strike just after a commit
        if system.ended():
            raise EndedError
        outcome.faults.append((time.monotonic() - start, name))
        try:
            schedule.kinds[name](system, draw)
        except EndedError:
            outcome.faults.pop()  # the study may have ended before the fault struck
            raise


def _await_epochs(system: System, count: int) -> None:
    """Wait for `count` more reported epochs. Raises `ChaosError` after `STUCK_SECONDS` without any."""
    reported = system.epochs()
    goal = reported + count
    while reported < goal:
        reported = system.wait("a reported epoch", partial(_more_epochs, system, reported), STUCK_SECONDS)


def _more_epochs(system: System, before: int) -> int | None:
    epochs = system.epochs()
    return epochs if epochs > before else None


def _await_end(system: System) -> None:
    """Wait for the end of the study. Raises `ChaosError` after `END_SECONDS` without a reported epoch."""
    reported = -1
    while (epochs := system.epochs()) > reported:
        reported, deadline = epochs, time.monotonic() + END_SECONDS
        ended = partial(_ended_or_late, system, deadline)
        if system.wait("the end of the study", ended, math.inf, until_end=False) == "ended":
            return
    raise ChaosError(f"the study has not ended, and reported no epoch for {END_SECONDS:.0f} s")


def _ended_or_late(system: System, deadline: float) -> Literal["ended", "late"] | None:
    if system.ended():
        return "ended"
    return "late" if time.monotonic() > deadline else None


def _inspect(system: System) -> EndState:
    """Return the end state, after `EXIT_SECONDS` at most for processes to exit and leases to expire."""
    storage = open_url(system.url)
    study = load(storage, NAME)
    _await(lambda: not system.processes())
    _await(lambda: not status(storage, study).workers)
    storage.engine.dispose()
    alive = [f"{process.pid}: {' '.join(process.words)}" for process in system.processes()]
    with connection(system.url) as opened:
        return read_end_state(opened, study, system.artifacts / study.artifacts_name, alive)


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
