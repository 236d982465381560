"""How often a process that ends too early is started again."""

from dataclasses import dataclass

from hpo.errors import InputError

MOST_FAILURES = 3
MOST_KILLS = 20
"""In a row, without a long life in between. An error of its own comes back; what others do to a process, as
when memory runs out, may not."""

LONG_LIFE = 60.0
"""Seconds after which a process counts as having worked."""


@dataclass
class Restarts:
    """What became of the processes that ran in one place, one after another."""

    failures: int = 0
    kills: int = 0

    def after(self, code: int, lived: float) -> str | None:
        """Which restart comes after this end, as "2 of 3"; None if there is to be none.

        `code`: the exit code, minus the signal's number for a process that was killed. One that ends with 0
        too early was told to stop.
        """
        if lived >= LONG_LIFE:
            self.failures = self.kills = 0
        if code == InputError.exit_code:
            return None  # a mistake in what the user wrote: another try would end the same way
        if code > 0:
            self.failures += 1
            count, most = self.failures, MOST_FAILURES
        else:
            self.kills += 1
            count, most = self.kills, MOST_KILLS
        return f"{count} of {most}" if count <= most else None
