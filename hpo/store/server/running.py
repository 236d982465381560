"""The running server of a data folder."""

import errno
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from hpo.errors import InputError, StorageError
from hpo.store.server.account import OTHERWISE
from hpo.store.server.address import connectable, server_url
from hpo.store.server.lock import FolderLock, Owner
from hpo.store.server.postmaster import PidFile, has_ended, listener, works_in

USELESS_FOLDER = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
"""Errors of the operating system that another HPO_HOME avoids."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    pid        PID of the main process, None if the process is in another PID namespace
    is_ready   whether the server accepts connections; otherwise it starts, recovers or stops
    """

    folder: Path
    socket_folder: Path
    pid: int | None
    is_ready: bool

    @property
    def url(self) -> URL:
        """Return the URL of the server."""
        return server_url(self.socket_folder)


def find_server(folder: Path) -> Server | None:
    """Return the running server of a data folder, None if no server runs or can be reached from here."""
    with errors_in_one_line(folder), FolderLock(folder) as lock:
        return lock_holder(folder, lock.owner()) if lock.is_held() else without_lock(folder)


@contextmanager
def errors_in_one_line(folder: Path) -> Iterator[None]:
    """Turn an `OSError` about the files of `folder` into an `InputError` or a `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in USELESS_FOLDER:
            raise InputError(
                f"HPO_HOME: cannot use {error.filename or folder}: {error.strerror}: "
                f"set HPO_HOME to a folder of your own, {OTHERWISE}"
            ) from error
        raise StorageError(f"cannot use the embedded PostgreSQL in {folder}: {error}") from error


def lock_holder(folder: Path, owner: Owner | None) -> Server | None:
    """Return the server that holds the lock of `folder`, None if the server cannot be reached."""
    socket_folder = Path(owner.socket_folder) if owner and owner.socket_folder else folder
    if not connectable(socket_folder) or not (socket_folder == folder or is_private(socket_folder, folder)):
        return None
    found, status = listener(socket_folder), PidFile.read(folder)
    if found is None or status is None or found.uid != folder.stat().st_uid:
        return None
    if found.pid is not None and has_ended(found.pid):
        return None  # children of the main process accept connections until they end
    pid = found.pid if sys.platform == "linux" else status.pid
    return Server(folder, socket_folder, pid, status.is_ready)


def without_lock(folder: Path) -> Server | None:
    """Return the running server of `folder` that another program started.

    The PID in `postmaster.pid` proves nothing. A server counts if it listens on a socket in the folder, if it
    has this PID by the kernel's report and works in the folder, or if it works there and does not listen yet.
    """
    status = PidFile.read(folder)
    if status is None:
        return None
    found = listener(status.socket_folder) if status.socket_folder else None
    inside = status.socket_folder is not None and _is_same(status.socket_folder, folder)
    works_here = works_in(status.pid, folder)
    if status.socket_folder and found and (inside or (works_here and found.pid == status.pid)):
        pid = found.pid if sys.platform == "linux" else status.pid
        return Server(folder, status.socket_folder, pid, status.is_ready)
    return Server(folder, folder, status.pid, is_ready=False) if works_here else None


def is_private(socket_folder: Path, folder: Path) -> bool:
    """Return whether a socket folder belongs to the owner of the data folder and is closed to all others."""
    try:
        status = socket_folder.lstat()
        is_folder = stat.S_ISDIR(status.st_mode)
        return is_folder and not status.st_mode & 0o077 and status.st_uid == folder.stat().st_uid
    except OSError:
        return False


def _is_same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False
