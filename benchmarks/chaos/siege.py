"""One study from start to end: without faults, and under those that a seed draws."""

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from benchmarks.chaos.faults import FAULTS, schedule
from benchmarks.chaos.invariants import Remains, remains, violations
from benchmarks.chaos.server import connection
from benchmarks.chaos.system import NAME, ChaosError, EndedError, System
from hpo.errors import HpoError
from hpo.store.connection import open_url
from hpo.study.status import status
from hpo.study.study import load

STUCK_SECONDS = 90.0
"""So long without a reported epoch is a failure."""

END_SECONDS = 240.0
"""So long after the last fault the study must be through."""

SETTLE_SECONDS = 10.0
"""So long after the study's end its last processes may take to go, and leases of the killed to run out."""


@dataclass
class Outcome:
    """What became of one seed.

    `faults`: seconds since the start and name of each; `recoveries`: seconds from the SIGKILL of a worker
    to the next claim of one of its trials.
    """

    seed: int
    faults: list[tuple[float, str]] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_calm(system: System) -> Remains:
    """What is left of a run without faults. Raises `ChaosError` if that alone breaks an invariant."""
    with _started(system):
        _await_end(system)
        left = _look(system)
    if found := violations(left):
        raise ChaosError("without any fault: " + "; ".join(found))
    return left


def run_besieged(system: System, calm: Remains, epochs: int, seed: int, count: int) -> Outcome:
    """A run of about so many epochs under the first `count` faults of the seed, beside a calm one."""
    outcome, start = Outcome(seed), time.monotonic()
    # Faults that take time let the study go on meanwhile: two thirds of its epochs are left to that.
    most = max(1, 2 * epochs // (3 * count))
    try:
        with _started(system):
            with suppress(EndedError):
                _strike(system, outcome, count, most)
            _await_end(system)
            system.end_faults(math.inf)
            system.violations += [*system.bad_lines(), *violations(_look(system), calm)]
    except (ChaosError, HpoError) as error:
        system.violations.append(str(error))
    outcome.violations, outcome.recoveries = system.violations, system.recoveries
    outcome.seconds = time.monotonic() - start
    return outcome


@contextmanager
def _started(system: System) -> Iterator[None]:
    """The system runs, and nothing of it lives on after the block."""
    try:
        system.start()
        yield
    finally:
        system.end_faults(math.inf)
        system.kill_all()


def _strike(system: System, outcome: Outcome, count: int, most: int) -> None:
    """The faults, each some epochs after the one before, `most` at most. Raises `EndedError` where the study
    ends before the last of them."""
    draw, start = random.Random(outcome.seed), time.monotonic()
    for name in schedule(outcome.seed, count):
        _await_epochs(system, draw.randint(1, most))
        time.sleep(draw.random())  # or every fault would strike just after a commit
        if system.ended():
            raise EndedError
        outcome.faults.append((time.monotonic() - start, name))
        try:
            FAULTS[name](system, draw)
        except EndedError:
            outcome.faults.pop()  # there may have been nothing left to strike
            raise


def _await_epochs(system: System, count: int) -> None:
    """Waits until so many more epochs are reported; one has to come every `STUCK_SECONDS`."""
    reported = system.epochs()
    goal = reported + count
    while reported < goal:
        reported = system.wait("a reported epoch", partial(_more, system, reported), STUCK_SECONDS)


def _more(system: System, before: int) -> int | None:
    now = system.epochs()
    return now if now > before else None


def _await_end(system: System) -> None:
    system.wait("the end of the study", lambda: system.ended() or None, END_SECONDS, until_end=False)


def _look(system: System) -> Remains:
    """What is left, once the processes have had their time to go, and the leases of the killed theirs to run
    out."""
    storage = open_url(system.url)
    study = load(storage, NAME)
    _settled(lambda: not system.processes())
    _settled(lambda: not status(storage, study).workers)
    storage.engine.dispose()
    named = [f"{process.pid}: {' '.join(process.words)}" for process in system.processes()]
    with connection(system.url) as opened:
        return remains(opened, study, system.artifacts, named)


def _settled(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
