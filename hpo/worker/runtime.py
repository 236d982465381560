"""The clock, the stop flag and the limits of a worker, which tests inject."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hpo.functions.task import FUNCTION_LIMITS, FunctionLimits
from hpo.store.retry import BACKOFF, Backoff
from hpo.worker.epoch_watch import EpochWatch
from hpo.worker.outbox import BACKOFF as DELIVERY_BACKOFF
from hpo.worker.reporter import ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class CheckpointLimits:
    """Limits on the writing of checkpoints."""

    max_share: float = 0.02
    """The share of a worker's time that checkpoints may take."""

    retry_seconds: float = 1.0
    """The wait before a failed write is tried again."""

    log_seconds: float = 60.0
    """How often a worker that cannot save says so."""


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Limits on the waits of a trial loop, in seconds."""

    answer_seconds: float = ANSWER_SECONDS

    join_seconds: float = 1.0
    """How often a pack with room looks for trials that could join it."""

    fill_seconds: float = 0.5
    """How long a pack that members have left waits for trials that fill it, before its next epoch."""

    suspend_seconds: float = 4.0
    """How long a stopped worker writes checkpoints. Trials without a new one resume from an older one."""

    release_seconds: float = 3.0
    """How long a stopped worker waits for the database. Trials that it cannot release are free when their
    leases end."""

    retry_seconds: float = 1.0
    """How often a loop without members looks whether its weights are saved and its reports delivered."""

    unsaved_seconds: float = 600.0
    """How long a worker keeps a finished model that it cannot save. Then it hands its trials back."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Limits of a worker. Names that end in `seconds` are in seconds."""

    idle_seconds: float = 0.5
    """How long a worker with nothing to claim waits before it claims again: others may lose a trial."""

    log_seconds: float = 15.0
    """How often a worker logs the losses of its pack."""

    max_failures: int = 3
    """A worker ends when this many packs in a row raise: the fault is then not one trial's."""

    lock_seconds: float = 3.0
    """How long a worker waits for a lock of another session before it counts the storage as away. No signal
    is handled while the driver waits."""

    poll_seconds: float = 0.5
    """How often a worker that waits for an answer looks whether it has to stop."""

    deliver_seconds: float = 1.0
    """How long a stopped worker waits for an answer, and for its last reports to be delivered."""

    query_backoff: Backoff = BACKOFF
    delivery_backoff: Backoff = DELIVERY_BACKOFF
    loop: LoopLimits = LoopLimits()
    checkpoints: CheckpointLimits = CheckpointLimits()
    functions: FunctionLimits = FUNCTION_LIMITS


@dataclass(frozen=True, slots=True)
class Runtime:
    """The stop flag, clock and limits of a worker. Setting `stop` ends the worker.

    `watch` knows since when the worker has shown no epoch.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.perf_counter
    limits: WorkerLimits = WorkerLimits()
    watch: EpochWatch = field(default_factory=EpochWatch)
