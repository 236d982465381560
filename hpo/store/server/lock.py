"""The lock on a data folder, which the running server holds, and a record of who runs the server."""

import fcntl
import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self

from hpo.errors import InputError


@dataclass(frozen=True, slots=True)
class Owner:
    """The holder of the lock on a data folder.

    host            name of the host
    boot            id of the boot of the machine
    pid_namespace   the PID namespace of the process that started the server
    pid             the PID of this process in its namespace
    socket_folder   where the server listens; empty: in the data folder, which may have another path elsewhere
    is_starting     whether this process still waits for the server
    """

    host: str
    boot: str
    pid_namespace: str
    pid: int
    socket_folder: str = ""
    is_starting: bool = True

    @classmethod
    def here(cls) -> "Owner":
        """Return this process as the owner of a server that it is about to start."""
        return cls(socket.gethostname(), _boot(), _pid_namespace(), os.getpid())

    def listening(self, socket_folder: str, is_starting: bool) -> "Owner":
        """Return the owner of a server that listens in `socket_folder`."""
        return replace(self, socket_folder=socket_folder, is_starting=is_starting)

    def is_here(self) -> bool:
        """Return whether this process sees the owner's processes under the same PIDs."""
        return (self.boot, self.pid_namespace) == (_boot(), _pid_namespace())

    def is_at_work(self) -> bool:
        """Return whether the process that starts the server is alive. Meaningful only if `is_here`."""
        if not self.is_starting:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def __str__(self) -> str:
        if self.boot != _boot():
            return f"host {self.host}"
        return f"another container or PID namespace (host name {self.host})"


class FolderLock:
    """A file lock beside a data folder. Leaving the context closes the lock file in this process.

    The server inherits the lock, and holds it while any process of the server lives. Then the kernel frees
    the lock, so that a dead owner locks nobody out. All containers and namespaces of a machine see the lock.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder.with_name(f"{folder.name}.lock")
        self._file = -1

    @property
    def path(self) -> Path:
        """Return the path of the lock file."""
        return self._path

    @property
    def file(self) -> int:
        """Return the open lock file, for a child process to inherit."""
        return self._file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Not LOCK_UN, which would take the lock from the server as well.
        self._close()

    def acquire(self) -> bool:
        """Take the lock unless it is held, and return whether it was free. Creates the lock file."""
        while True:
            self._open(os.O_CREAT)
            free = self._lock(fcntl.LOCK_EX)
            # Somebody may have deleted the file before it was locked.
            if self._is_current():
                return free

    def is_held(self) -> bool:
        """Return whether somebody holds the lock. Creates no file."""
        try:
            self._open(0)
        except FileNotFoundError:
            return False
        # A shared lock, so that two processes that only look do not block each other.
        held = not self._lock(fcntl.LOCK_SH)
        if not held:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return held

    def owner(self) -> Owner | None:
        """Return the recorded owner, None if the record cannot be read."""
        with suppress(ValueError, TypeError):
            return Owner(**json.loads(os.pread(self._file, 65536, 0)))
        return None

    def write(self, owner: Owner) -> None:
        """Record the owner. Only the holder of the lock may do so."""
        text = json.dumps(asdict(owner)).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)

    def _open(self, flags: int) -> None:
        self._close()
        self._file = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)
        if os.geteuid() == 0:
            # Root may start the server of another user, who needs the file as well.
            parent = self._path.parent.stat()
            os.fchown(self._file, parent.st_uid, parent.st_gid)

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise InputError(
                f"HPO_HOME: {self._path.parent} is on a file system without file locks ({error.strerror}): "
                "set HPO_HOME to a folder on a local disk, or HPO_STORAGE_URL to a PostgreSQL server"
            ) from error
        return True

    def _is_current(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._file), self._path.stat())
        return False

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


@cache
def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _pid_namespace() -> str:
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""
