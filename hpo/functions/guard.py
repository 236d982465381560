"""A small process beside a worker that ends the processes of training functions when the worker is gone.

A function may start processes of its own, which a killed worker would leave behind. The guard holds nothing
but numbers, and reads them from a pipe that closes however the worker ends.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


class Guard:
    """The guard of this process. It deletes `folder` in the end."""

    def __init__(self, folder: Path) -> None:
        from hpo.settings import PYTHON  # here: the guard itself does without pydantic

        self._process = subprocess.Popen(
            [*PYTHON, "-m", "hpo.functions.guard", str(folder)],
            stdin=subprocess.PIPE,
            # The output of the worker ends with the worker.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # An interrupt from the terminal is for the worker.
            start_new_session=True,
        )

    def add(self, leader: int) -> None:
        """Let the guard end a process group, by the process that leads it."""
        self._tell(leader)

    def remove(self, leader: int) -> None:
        """Let the guard forget a process group that has ended."""
        self._tell(-leader)

    def close(self) -> None:
        """Let the guard end what is left, and wait for it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, number: int) -> None:
        assert self._process.stdin is not None
        with suppress(
            BrokenPipeError
        ):  # somebody has killed the guard: functions end with their worker anyway
            os.write(self._process.stdin.fileno(), f"{number}\n".encode())


def end_group(leader: int) -> None:
    """Kill a process group. Its leader must not have been waited for yet."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def watch(lines: BinaryIO, folder: Path) -> None:
    """Follow the worker until its pipe closes, then end what it has left."""
    leaders: set[int] = set()
    for line in lines:
        number = int(line)
        if number > 0:
            leaders.add(number)
        else:
            leaders.discard(-number)
    for leader in leaders:
        end_group(leader)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    watch(sys.stdin.buffer, Path(sys.argv[1]))
