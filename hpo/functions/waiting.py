"""Wait for the epoch of a training function, within limits."""

from hpo.functions.channel import Message
from hpo.functions.failures import FunctionFailure
from hpo.functions.process import FunctionProcess
from hpo.functions.task import FunctionRuntime
from hpo.values.wording import byte_text


class EpochWait:
    """The wait for one epoch, which may take several processes."""

    def __init__(self, runtime: FunctionRuntime) -> None:
        """Count from now on."""
        self._runtime, self._limits, self._clock = runtime, runtime.limits, runtime.clock
        self._start = self._next_measurement = self._clock()
        self._stopped_at: float | None = None

    def receive(self, process: FunctionProcess) -> Message:
        """Return the next message of a process.

        Raises `FunctionFailure` if the function fails or exceeds a limit, and `FunctionKilledError`. If the
        worker has to stop, and the grace is over, the process is killed and the runtime's `interrupt` raises.
        """
        while (message := process.receive(self._limits.poll_seconds)) is None:
            self._check_stop(process)
            self._check_time(process)
            self._check_memory(process)
        return message

    def _check_stop(self, process: FunctionProcess) -> None:
        if not self._runtime.stop.is_set():
            return
        now = self._clock()
        if self._stopped_at is None:
            self._stopped_at = now
        if now - self._stopped_at >= self._limits.grace_seconds:
            process.kill()
            self._runtime.interrupt()

    def _check_time(self, process: FunctionProcess) -> None:
        minutes = self._limits.epoch_minutes
        if minutes is None or self._clock() - self._start < 60 * minutes:
            return
        place, trace = process.place()
        process.kill()
        at = f" at {place}" if place else ""
        raise FunctionFailure(f"timed out{at}: no epoch in {minutes:g} minutes (limits.epoch_minutes)", trace)

    def _check_memory(self, process: FunctionProcess) -> None:
        limit = self._limits.memory
        if limit is None or self._clock() < self._next_measurement:
            return
        self._next_measurement = self._clock() + self._limits.memory_seconds
        used = process.memory(limit)
        if used <= limit:
            return
        place, trace = process.place()
        process.kill()
        at = f" at {place}" if place else ""
        reason = f"out of memory{at}: it used {byte_text(used)}, and resources.memory is {byte_text(limit)}"
        raise FunctionFailure(reason, trace)
