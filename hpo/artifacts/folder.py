"""A folder that stores artifacts durably."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from hpo.artifacts.base import ArtifactStore, is_name
from hpo.errors import AwayError
from hpo.ownership import give, make_folder


class FolderStore(ArtifactStore):
    """Files under `root`. A file survives a power cut; a subfolder exists while it holds files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _put(self, name: str, data: bytes) -> None:
        path = self.root / name
        with _away(path):
            with _new_file(path) as file:
                try:
                    give(file.fileno(), path.parent)
                    file.write(data)
                    os.fchmod(file.fileno(), 0o644)  # another user's worker may take over the trial
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
            _sync_folder(path.parent)

    def _get(self, name: str) -> bytes:
        path = self.root / name
        with _away(path):
            return path.read_bytes()

    def _list(self, prefix: str) -> Iterable[str]:
        folder = self.root / prefix.rpartition("/")[0]
        with _away(folder):
            names = [path.relative_to(self.root).as_posix() for path in _files(folder)]
        return [name for name in names if name.startswith(prefix) and is_name(name)]

    def _delete(self, name: str) -> None:
        path = self.root / name
        with _away(path):
            path.unlink(missing_ok=True)
            with suppress(OSError):  # a folder that holds files, or that another process has deleted
                for folder in path.parents:
                    if folder == self.root.parent:
                        break
                    folder.rmdir()


def open_folder(location: str, study: str) -> FolderStore:
    """Open the folder of a study inside the folder `location`."""
    return FolderStore(Path(location, study))


@contextmanager
def _away(path: Path) -> Iterator[None]:
    """Raise an OSError of the block as `AwayError`, with the path and the reason."""
    try:
        yield
    except OSError as error:
        raise AwayError(f"{path}: {error.strerror or error}") from error


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder; none if the folder does not exist or is deleted meanwhile.

    A subfolder that only another user may read, such as that of an export under way, is left out.
    """

    def check(error: OSError) -> None:
        is_foreign = isinstance(error, PermissionError) and error.filename != os.fspath(folder)
        if not (is_foreign or isinstance(error, FileNotFoundError)):
            raise error

    for parent, _, names in os.walk(folder, onerror=check):
        yield from (Path(parent, name) for name in names)


# Another process may delete the folder, which is empty, before the file is in it.
@retry(retry=retry_if_exception_type(FileNotFoundError), stop=stop_after_attempt(5), reraise=True)
def _new_file(path: Path) -> IO[bytes]:
    """Open a new file beside `path`, in a folder that is made if it does not exist."""
    _make_folder(path.parent)
    return NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)


def _make_folder(folder: Path) -> None:
    """Make a folder and the folders above it, and their names durable."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    make_folder(folder)
    with suppress(PermissionError):  # a folder that may be written to but not read
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make new names in a folder durable; fsync of a file covers its content alone."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
