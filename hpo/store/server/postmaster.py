"""The server's main process, the postmaster, as a data folder and a socket describe it."""

import os
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from hpo.store.server.address import socket_file


@dataclass(frozen=True, slots=True)
class PidFile:
    """The file `postmaster.pid`, which PostgreSQL writes into its data folder.

    The file may be stale: after a crash, the PID may belong to any process.
    """

    pid: int
    socket_folder: Path | None
    status: str

    @classmethod
    def read(cls, folder: Path) -> "PidFile | None":
        """Read the file of a data folder. None if the file is missing or incomplete."""
        try:
            lines = (folder / "postmaster.pid").read_text(errors="surrogateescape").splitlines()
            pid = abs(int(lines[0]))
        except (OSError, ValueError, IndexError):
            return None
        # Lines: PID, data folder, start time, port, socket folder, host, shared memory, status.
        lines += [""] * (8 - len(lines))
        return cls(pid, Path(lines[4]) if lines[4] else None, lines[7].strip())

    @property
    def is_ready(self) -> bool:
        """Return whether the file says that the server accepts connections."""
        return self.status == "ready"


@dataclass(frozen=True, slots=True)
class Listener:
    """The process that listens on a socket, as the kernel reports it.

    pid   in this process's PID namespace; None if the listener is in another namespace
    uid   the listener's user
    """

    pid: int | None
    uid: int


def listener(folder: Path) -> Listener | None:
    """Return the process that listens on the server's socket in `folder`, None if no process does."""
    path = socket_file(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except PermissionError:
            raise
        except OSError:  # also a path that is too long
            return None
        if sys.platform == "linux":
            # Credentials of the caller of listen(2): the postmaster, even if only its children live.
            pid, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return Listener(pid or None, uid)
    try:
        return Listener(None, path.stat().st_uid)
    except FileNotFoundError:
        return None


def works_in(pid: int, folder: Path) -> bool:
    """Return whether `folder` is the working directory of a process. False if this is unknown.

    All processes of a server work in their data folder.
    """
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def has_ended(pid: int) -> bool:
    """Return whether no process has the PID, or only a process that ended and whose parent does not know."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "XZ"
