"""Other users, and other namespaces of this machine, as root can make them."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest

from hpo.store.server import programs
from support.clients import PROCESSES

T = TypeVar("T")

NAMELESS = 54321

NAMESPACES = ("unshare", "--pid", "--fork", "--mount-proc", "--ipc")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def is_open(folder: Path) -> bool:
    """Return whether all users may enter a folder."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (folder, *folder.parents))


needs_open_programs = pytest.mark.skipif(
    not is_open(programs().path), reason="other users may not enter the folder of PostgreSQL's programs"
)


def can_unshare() -> bool:
    """Return whether this process may make PID namespaces."""
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*NAMESPACES, "--uts", "true"], capture_output=True, check=False)
    return done.returncode == 0


needs_namespaces = pytest.mark.skipif(not can_unshare(), reason="this process may not make namespaces")


def two_users() -> tuple[int, int]:
    """Return two users of this system that are neither root nor nobody."""
    uids = sorted({entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid not in (0, 65534)})
    if len(uids) < 2:
        pytest.skip("this system has no two users")
    return uids[0], uids[1]


def as_user(uid: int, function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a process of another user. All of its imports must be done before."""
    with ProcessPoolExecutor(1, PROCESSES) as pool:
        return pool.submit(_become, uid, function, arguments).result(timeout=120)


def _become(uid: int, function: Callable[..., T], arguments: tuple[object, ...]) -> T:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    return function(*arguments)


@contextmanager
def folder_of(uid: int) -> Iterator[Path]:
    """Yield a folder of a user that all others may enter. pytest's temporary folder is for its user only."""
    with TemporaryDirectory(prefix="hpo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        os.chown(folder, uid, -1)
        yield folder
