"""A small process beside a worker that kills the worker once an epoch takes too long.

The code of a network can hang so that no thread of the worker can run. The watchdog imports hpo's packages
only once it has to act, and until then takes about ten megabytes. It counts only while the worker trains, not
while the worker waits for the storage, saves a checkpoint or compiles programs.
"""

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

log = logging.getLogger("hpo.worker")

BEGIN, END = b"b", b"e"
"""The bytes that a worker writes when training begins and when training ends."""

POLL_SECONDS = 1.0
"""Interval at which the watchdog checks that the worker is still its parent. A closed pipe is not enough:
processes that a network has started may hold the pipe open."""

GRACE_SECONDS = 10.0
"""Seconds from SIGTERM to SIGKILL."""


class Watchdog:
    """The watchdog of this process, and the heartbeat that it reads."""

    def __init__(self, study: str, worker: str, minutes: float) -> None:
        from hpo.settings import PYTHON  # here: the watchdog itself does without pydantic

        arguments = [str(os.getpid()), study, worker, repr(minutes)]
        self._process = subprocess.Popen(
            [*PYTHON, "-m", "hpo.run.watchdog", *arguments],
            stdin=subprocess.PIPE,
            # An interrupt from the terminal is for the worker.
            start_new_session=True,
        )

    def begin(self) -> None:
        """Start the count of the watchdog."""
        self._write(BEGIN)

    def end(self) -> None:
        """Stop the count of the watchdog."""
        self._write(END)

    def _write(self, beat: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # someone has killed the watchdog: the worker trains without a limit
            os.write(self._process.stdin.fileno(), beat)


@dataclass
class Heartbeats:
    """The end of the pipe that the watchdog reads. `parent`: the worker."""

    pipe: int
    parent: int
    clock: Callable[[], float] = time.monotonic
    poll_seconds: float = POLL_SECONDS
    _since: float | None = None

    def wait(self, seconds: float) -> bool:
        """Return True once the worker has trained for `seconds`, and False once it has ended."""
        while self._read():
            if self._since is not None and self.clock() - self._since >= seconds:
                return True
        return False

    def has_ended(self, seconds: float) -> bool:
        """Return whether the worker ends within `seconds`."""
        deadline = self.clock() + seconds
        while self.clock() < deadline:
            if not self._read():
                return True
        return False

    def _read(self) -> bool:
        """Wait briefly for a beat. Return whether the worker is alive."""
        if select.select([self.pipe], [], [], self.poll_seconds)[0]:
            beats = os.read(self.pipe, 4096)
            if not beats:
                return False
            self._since = self.clock() if beats.endswith(BEGIN) else None
        return os.getppid() == self.parent


def main(parent: int, study_name: str, worker: str, minutes: float) -> None:
    """Watch the worker `parent` until it ends, or end it."""
    heartbeats = Heartbeats(0, parent)
    if not heartbeats.wait(60 * minutes):
        return
    from hpo.run.environment import open_study
    from hpo.run.logs import log_to_stderr
    from hpo.run.retry import until_storage_answers
    from hpo.study.timeouts import time_out

    log_to_stderr(logging.INFO)
    _, storage, study = until_storage_answers(lambda: open_study(study_name))
    if not heartbeats.wait(60 * minutes):  # the epoch may have ended while the storage was away
        return
    # First the trials, then the process: otherwise another worker could claim the trials as lost.
    outcome = until_storage_answers(lambda: time_out(storage, study, worker, minutes))
    for numbers, fate in ((outcome.failed, "failed"), (outcome.handed_back, "runs again, alone")):
        for number in numbers:
            log.error("trial %d: no epoch in %g minutes; it %s", number, minutes, fate)
    log.error("%s: this worker hangs and is ended", worker)
    _end(parent, heartbeats)


def _end(worker: int, heartbeats: Heartbeats) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if os.getppid() != worker:
            return
        os.kill(worker, number)
        if heartbeats.has_ended(GRACE_SECONDS):
            return


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]))
