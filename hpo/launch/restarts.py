"""Decide how often a process that ends too early is started again."""

from dataclasses import dataclass

from hpo.errors import HpoError, InputError

MAX_FAILURES = 3
MAX_KILLS = 20
"""The most restarts after failures, and after kills, until a process lives for `LONG_LIFE`. A process's own
error is likely to come back. A kill from outside, such as for lack of memory, may not."""

LONG_LIFE = 60.0
"""Seconds after which a process counts as having worked."""


@dataclass
class Restarts:
    """The early ends of the processes of one slot, in a row."""

    failures: int = 0
    kills: int = 0

    def after(self, code: int, seconds: float) -> str | None:
        """Count an end; return the restart that follows, such as "2 of 3", or None if there is no restart.

        `code`: the exit code, minus the signal's number for a process that was killed. A process that ended
        early with 0 was told to stop, which counts as a kill. So does a code that hpo does not use: the code
        of a network has ended the process, and its trial will run alone. `seconds`: how long the process has
        lived.
        """
        if seconds >= LONG_LIFE:
            self.failures = self.kills = 0
        if code == InputError.exit_code:
            return None  # a mistake of the user: another try would end the same way
        if code == HpoError.exit_code:
            self.failures += 1
            count, limit = self.failures, MAX_FAILURES
        else:
            self.kills += 1
            count, limit = self.kills, MAX_KILLS
        return f"{count} of {limit}" if count <= limit else None
