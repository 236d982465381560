"""The file with all lines of the workers that one call has started."""

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from hpo.ownership import make_folder, open_new

KEPT = 10
"""The newest files of a study that stay."""


def remove_logs(folder: Path, studies: Iterable[str]) -> None:
    """Delete the files of deleted studies in `folder`, by the names of their artifacts."""
    for name in studies:
        shutil.rmtree(folder / name, ignore_errors=True)


class WorkerLog:
    """A context manager that opens a new file in `folder`, which is the study's, and deletes old ones.

    `path` is the file, None if it cannot be written: a full disk does not stop the training.
    """

    path: Path | None = None

    def __init__(self, folder: Path, clock: Callable[[], datetime] = datetime.now) -> None:
        self._folder, self._clock = folder, clock
        self._file: BinaryIO | None = None

    def __enter__(self) -> "WorkerLog":
        path = self._folder / f"{self._clock():%Y%m%d-%H%M%S}-{os.getpid()}.log"
        with suppress(OSError):
            make_folder(self._folder, 0o700)
            self._file = open_new(path)
            self.path = path
            for old in sorted(self._folder.glob("*.log"))[:-KEPT]:
                old.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def writing(self, show: Callable[[str], None]) -> Callable[[str], None]:
        """Return a function that writes a line to the file, then shows it."""

        def write(line: str) -> None:
            self._write(line)
            show(line)

        return write

    def _write(self, line: str) -> None:
        # A line at a time, so that `tail -f` shows each one at once. ValueError: the file is closed.
        with suppress(OSError, ValueError):
            if self._file is not None:
                self._file.write(f"{self._clock():%H:%M:%S} {line}\n".encode(errors="replace"))
                self._file.flush()
