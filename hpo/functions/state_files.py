"""The states of one trial as files, and copies of the files in its directory: the side of the function.

A *commit* is what belongs to an epoch: the state saved last, and the files of the trial's directory. Files
keep a commit readable when the function's process has died.
"""

import os
import shutil
import time
from pathlib import Path
from stat import S_ISREG

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hpo.errors import one_line
from hpo.functions.encoding import decode, encode

SETTLED_NS = 2_000_000_000
"""A file that was changed this shortly before it was copied may change again without another time stamp."""


class StateFiles:
    """Saves states into a folder, and loads the state committed last."""

    def __init__(self, folder: Path, committed: str | None = None) -> None:
        """Use `folder`, in which the file `committed` has the state of the last commit."""
        self._folder, self._committed = folder, committed
        self._staged: str | None = None
        self._count = 0
        self.was_loaded = False
        """Whether the function has asked for its state."""

    def load(self) -> object:
        """Return the state committed last, None if there is none."""
        self.was_loaded = True
        return None if self._committed is None else decode(load_file(self._folder / self._committed))

    def stage(self, state: object) -> None:
        """Write a state, which replaces a state that is staged already.

        Raises `StateTypeError` for a state that cannot be saved, and `OSError` if the disk is full.
        """
        arrays = {name: np.asarray(array, order="C") for name, array in encode(state).items()}
        previous = self._staged
        self._count += 1
        name = f"{os.getpid()}-{self._count}.safetensors"
        try:
            save_file(arrays, self._folder / name)
        except (OSError, SafetensorError) as error:
            (self._folder / name).unlink(missing_ok=True)
            raise OSError(f"the state cannot be written into {self._folder}: {one_line(error)}") from error
        self._staged = name
        if previous is not None:
            (self._folder / previous).unlink(missing_ok=True)

    def commit(self) -> str | None:
        """Return the name of the file with the staged state, None if no state was staged."""
        staged, self._staged = self._staged, None
        if staged is not None:
            self._committed = staged
        return staged


class DirectoryCopies:
    """Copies the files of a directory into a folder, each once as long as the file stays as it is."""

    def __init__(self, directory: Path, folder: Path) -> None:
        self._directory, self._folder = directory, folder
        self._copies: dict[str, tuple[object, str]] = {}
        self._count = 0

    def take(self) -> dict[str, str]:
        """Return the names of the copies by the path of the file below the directory.

        Raises `DirectoryError` for what is no file, such as a link to a folder, and for a name that no
        artifact store could hold.
        """
        copies = {}
        if self._directory.is_symlink() or self._directory.is_file():
            raise DirectoryError("trial.directory is no folder any more; only files in it belong to a trial")
        for path in sorted(self._directory.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            name = path.relative_to(self._directory).as_posix()
            if not name.isascii() and name != name.encode(errors="replace").decode():
                raise DirectoryError(f"trial.directory: the name {name!a} is no valid Unicode")
            copy = self._copy(path, name)
            if copy is not None:
                copies[name] = copy
        self._copies = copies
        return {name: copy for name, (_, copy) in copies.items()}

    def _copy(self, path: Path, name: str) -> tuple[object, str] | None:
        """Return the state of a file and the name of its copy, None if the file has just been deleted."""
        now = time.time_ns()
        try:
            stat = path.stat()
            if not S_ISREG(stat.st_mode):
                raise DirectoryError(f"trial.directory: {name} is no file; only files can belong to a trial")
            key = (
                (stat.st_ino, stat.st_size, stat.st_mtime_ns) if stat.st_mtime_ns < now - SETTLED_NS else None
            )
            if key is not None and name in self._copies and self._copies[name][0] == key:
                return self._copies[name]
            self._count += 1
            copy = f"{os.getpid()}-{self._count}.copy"
            shutil.copyfile(path, self._folder / copy)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not path.is_symlink():
                return None
            raise DirectoryError(f"trial.directory: {name} cannot be copied: {error.strerror}") from error
        return key, copy


class DirectoryError(Exception):
    """A trial's directory with something that cannot be copied."""
