"""The commits of one trial as files, the side of the worker: see `state_files`."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from safetensors.numpy import load_file, save_file

from hpo.functions.encoding import FILES, decode_files
from hpo.values.state import Arrays


@dataclass(frozen=True, slots=True)
class Commit:
    """What belongs to an epoch: the file with the state, if one was saved, and copies of files by path.

    The names are those of files in the trial's folder. `metrics` are those of the epoch.
    """

    epoch: int
    metrics: Mapping[str, float]
    state: str | None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        return {*self.files.values(), *([] if self.state is None else [self.state])}


class TrialFolder:
    """The files of one trial on this machine.

    `directory` is what the function sees. `commits` has states, and copies of files of the directory.
    """

    def __init__(self, parent: Path, prefix: str) -> None:
        """Create the folder in `parent`, with a name that begins with `prefix`."""
        self._path = Path(mkdtemp(prefix=prefix, dir=parent))
        self.directory, self.commits = self._path / "files", self._path / "commits"
        for folder in (self.directory, self.commits):
            folder.mkdir()

    def read(self, commit: Commit) -> "LazyArrays":
        """Return the arrays of a commit, as `encode` returns them, read on first use."""
        return LazyArrays(partial(self._read, commit))

    def write(self, name: str, epoch: int, metrics: Mapping[str, float], arrays: Arrays) -> Commit:
        """Write the arrays of a commit into files whose names begin with `name`. Return the commit.

        Raises `StateError` for the path of a file that leads out of the directory.
        """
        files = {path: f"{name}-{index}.copy" for index, path in enumerate(decode_files(arrays))}
        for path, copy in files.items():
            arrays[FILES + path].tofile(self.commits / copy)
        state = {key: array for key, array in arrays.items() if not key.startswith(FILES)}
        file = f"{name}.safetensors" if state else None
        if file is not None:
            save_file(
                {key: np.asarray(array, order="C") for key, array in state.items()}, self.commits / file
            )
        return Commit(epoch, metrics, file, files)

    def restore(self, commit: Commit | None) -> None:
        """Give the directory the files of a commit, and no others."""
        self._clear()
        for path, copy in ({} if commit is None else commit.files).items():
            target = self.directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.commits / copy, target)

    def _clear(self) -> None:
        """Empty the directory, which the function may have deleted or replaced."""
        if self.directory.is_symlink() or self.directory.is_file():
            self.directory.unlink()
        elif self.directory.exists():
            shutil.rmtree(self.directory)
        self.directory.mkdir()

    def keep(self, names: set[str]) -> None:
        """Delete all other files of commits."""
        for path in self.commits.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _read(self, commit: Commit) -> dict[str, np.ndarray]:
        state = {} if commit.state is None else load_file(self.commits / commit.state)
        files = {
            FILES + path: np.fromfile(self.commits / copy, np.uint8) for path, copy in commit.files.items()
        }
        return state | files


class LazyArrays(Mapping[str, np.ndarray]):
    """Arrays that are read on first use: most states are replaced before anybody asks for them."""

    def __init__(self, read: Callable[[], Mapping[str, np.ndarray]]) -> None:
        self._read = read
        self._arrays: Mapping[str, np.ndarray] | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def _all(self) -> Mapping[str, np.ndarray]:
        if self._arrays is None:
            self._arrays = self._read()
        return self._arrays
