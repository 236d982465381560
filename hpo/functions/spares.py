"""The processes of one training function on one worker: at most one that trains, and one spare.

A spare that can be forked stays, as the template of all later trials.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from hpo.functions.failures import FunctionFailure, FunctionKilledError
from hpo.functions.guard import Guard
from hpo.functions.process import FunctionProcess

MAX_KILLS = 3
"""The import of the function fails when its process was killed this many times in a row."""


class FunctionProcesses:
    """Starts processes of one function. A spare imports the user's module while another process trains.

    `folder` is a temporary folder of this worker. It has the files of trials, and goes with the worker.
    """

    def __init__(self, reference: str, parent: Path | None = None) -> None:
        """Create no process of the function yet. `parent`: where `folder` is, by default the system's folder
        for temporary files."""
        self._reference = reference
        self.folder = Path(mkdtemp(prefix=f"hpo-{os.getpid()}-", dir=parent))
        self._guard = Guard(self.folder)
        self._spare: FunctionProcess | None = None
        self._taken: FunctionProcess | None = None

    def take(self) -> FunctionProcess:
        """Return a process for a trial: a fork of the spare, the spare itself, or a new process."""
        self._discard_dead_spare()
        spare, self._spare = self._spare, None
        fork = None if spare is None else spare.fork(self.folder)
        if fork is not None:
            self._spare = spare
        self._taken = fork or spare or FunctionProcess.start(self._reference, self.folder, self._guard)
        return self._taken

    def code(self) -> str | None:
        """Start a spare, and return the hash of the code that it has imported.

        A spare that somebody has killed is replaced. Raises `FunctionFailure` if the code cannot be imported,
        or the spare was killed `MAX_KILLS` times.
        """
        for _ in range(MAX_KILLS):
            self.start_spare()
            assert self._spare is not None
            try:
                code: str | None = self._spare.wait_until_ready()["code"]
            except FunctionKilledError as error:
                self._spare, killed = None, error
            else:
                return code
        raise FunctionFailure(
            f"its process was killed by {killed} {MAX_KILLS} times in a row, during the import; is there "
            "enough memory?"
        ) from killed

    def start_spare(self) -> None:
        """Start a spare unless there is one."""
        self._discard_dead_spare()
        if self._spare is None:
            self._spare = FunctionProcess.start(self._reference, self.folder, self._guard)

    def _discard_dead_spare(self) -> None:
        if self._spare is not None and not self._spare.is_alive:
            self._spare.kill()
            self._spare = None

    def close(self) -> None:
        """End the processes and delete the folder. A function between two epochs closes what it has open."""
        if self._taken is not None:
            self._taken.end()
        if self._spare is not None:
            self._spare.kill()
            self._spare = None
        self._guard.close()
        with suppress(OSError):
            shutil.rmtree(self.folder)
