"""What a session of a training function works with."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from hpo.values.objective import Objective
from hpo.values.stage import Stage


@dataclass(frozen=True, slots=True)
class FunctionTask:
    """A training function in one stage of a study.

    `reference`: as `package.module:function`. `epochs`: the budget of a trial. `keep`: the epoch that counts,
    the last or the best. `device`: torch's name of the device. `check_code` gets the hash of the code that a
    process has imported, and raises if it is not that of the study.
    """

    reference: str
    stage: Stage
    epochs: int
    keep: Literal["last", "best"]
    objective: Objective
    device: str
    check_code: Callable[[str | None], None] = lambda _hash: None


@dataclass(frozen=True, slots=True)
class FunctionLimits:
    """Limits of a training function. Names that end in `seconds` are in seconds.

    `epoch_minutes` and `memory`, in bytes, are those of the study; None: no limit.
    """

    epoch_minutes: float | None = None
    memory: int | None = None

    grace_seconds: float = 4.0
    """How long a function of a stopped worker may take to reach the end of its epoch."""

    poll_seconds: float = 0.1
    """How often a worker that waits for an epoch looks at its limits."""

    memory_seconds: float = 1.0
    """How often the memory of a function is measured, if it is limited."""

    kills: int = 3
    """A trial fails when its process was killed this many times in a row without a new epoch."""


FUNCTION_LIMITS = FunctionLimits()


def _not_interrupted() -> NoReturn:
    raise InterruptedError


@dataclass(frozen=True, slots=True)
class FunctionRuntime:
    """The stop flag, the clock and the limits of a session, which tests inject.

    `interrupt` raises what ends a session whose worker has to stop in the middle of an epoch.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.perf_counter
    interrupt: Callable[[], NoReturn] = _not_interrupted
    limits: FunctionLimits = FUNCTION_LIMITS
