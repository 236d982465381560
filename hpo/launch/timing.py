"""The clock and the limits of a launcher, which tests inject."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """The clock of a launcher, and its limits in seconds."""

    clock: Callable[[], float] = time.monotonic

    poll_seconds: float = 0.2
    """How often the launcher looks at its processes, unless one of them ends."""

    grace_seconds: float = 12.0
    """How long stopped workers may save and release their trials before they are killed."""

    kill_seconds: float = 5.0
    """How long a killed process may take to end. A process that a driver holds in the kernel ends later."""

    reclaim_seconds: float = 3.0
    """How long a stopped launcher waits for the storage to take back the trials of its workers."""

    output_seconds: float = 3.0
    """How long a stopped launcher waits for the last lines of each process."""

    start_seconds: float = 20.0
    """After this time a worker without output counts as started: it has found nothing to train."""

    standby_seconds: float = 20.0
    """The launcher starts no standby before this time. The start takes three seconds of a core from the
    workers, and a search that is over by then rarely loses a worker."""
