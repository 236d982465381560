"""Start, find and stop the embedded server of a data folder."""

import logging
import os
import signal
import subprocess
import time
from pathlib import Path

from sqlalchemy.engine import URL

from hpo.errors import StorageError, UnavailableError
from hpo.store.server.address import connectable, remove_short_folder, server_url, short_folder
from hpo.store.server.cluster import Cluster, ServerProcess
from hpo.store.server.lock import FolderLock, Owner
from hpo.store.server.mounts import refuse_network
from hpo.store.server.postmaster import listener
from hpo.store.server.running import errors_in_one_line, find_server, is_private, lock_holder, without_lock
from hpo.store.server.waiting import LIMITS, Limits, Waiting, unreachable

log = logging.getLogger(__name__)

LOG_LINES = 20
"""Lines of the server's log that are shown when the server fails."""


def start_server(folder: Path, limits: Limits = LIMITS) -> URL:
    """Start the embedded PostgreSQL in `folder` unless it is running, and return the URL.

    All processes of the user share the server. The server listens on a socket file only, and keeps running
    when processes end. While the server recovers after a crash, this function waits. Raises `StorageError`,
    and `InputError` if the folder cannot be used or the extra `server` is not installed.
    """
    with errors_in_one_line(folder):
        return _start(folder, limits)


def unreachable_server(folder: Path) -> str | None:
    """Return why the server that holds the lock of `folder` cannot be reached, None if nobody holds it."""
    with errors_in_one_line(folder), FolderLock(folder) as lock:
        return unreachable(folder, lock.owner()) if lock.is_held() else None


def stop_server(folder: Path, seconds: float = 60.0) -> bool:
    """Stop the embedded PostgreSQL in `folder`, and return whether it was running.

    The server closes all connections; committed data is on disk. Raises `StorageError` for a server that
    this process cannot stop, or that has not ended after `seconds`.
    """
    server = find_server(folder)
    if server is None:
        reason = unreachable_server(folder)
        if reason is not None:
            raise StorageError(reason)
        return False
    if server.pid is None:
        raise StorageError(f"the PostgreSQL in {folder} runs in another PID namespace; stop it there")
    with errors_in_one_line(folder):
        os.kill(server.pid, signal.SIGINT)  # PostgreSQL's "fast shutdown"
    deadline = time.monotonic() + seconds
    while _is_running(folder):
        if time.monotonic() > deadline:
            raise StorageError(f"the embedded PostgreSQL in {folder} has not ended after {seconds:.0f} s")
        time.sleep(0.02)
    _reap()
    if server.socket_folder != folder:
        remove_short_folder(server.socket_folder)
    return True


def _start(folder: Path, limits: Limits) -> URL:
    waiting = Waiting(folder, limits)
    if not FolderLock(folder).path.exists():
        # Refuse bad folders before anything is created.
        refuse_network(folder)
        Cluster.of(folder).check()
        folder.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with FolderLock(folder) as lock:
            if lock.acquire():
                # A server that another program started holds no lock.
                server, owner = without_lock(folder), None
                if server is None:
                    return _serve(folder, lock, limits)
            else:
                owner = lock.owner()
                server = lock_holder(folder, owner)
        if server is not None and server.is_ready:
            return server.url
        waiting.step(server, owner)


def _serve(folder: Path, lock: FolderLock, limits: Limits) -> URL:
    """Start the server under the lock, and wait until it accepts connections."""
    refuse_network(folder)
    cluster = Cluster.of(folder)
    previous, owner = lock.owner(), Owner.here()
    lock.write(owner)
    is_new = not cluster.exists
    if is_new:
        cluster.create(lock.file)
    socket_folder = _socket_folder(cluster, previous)
    recorded = "" if socket_folder == folder else str(socket_folder)
    lock.write(owner.listening(recorded, is_starting=True))
    started = cluster.start(cluster.socket_settings(socket_folder), lock.file)
    _started.append(started.process)
    _wait(started, socket_folder, limits)
    lock.write(owner.listening(recorded, is_starting=False))
    if is_new:
        log.info(
            "the embedded PostgreSQL in %s keeps running when this command ends; to stop it: hpo server stop",
            folder,
        )
    return server_url(socket_folder)


def _wait(started: ServerProcess, socket_folder: Path, limits: Limits) -> None:
    """Wait until the server accepts connections. Raises `StorageError` with the reason if it ends."""
    begin, pause, told = limits.clock(), 0.005, False
    while True:
        try:
            if started.is_ready and listener(socket_folder) is not None:
                return
        except StorageError:
            _show_log(started)
            raise
        waited = limits.clock() - begin
        if waited > limits.notice and not told:
            told = True
            log.warning("the embedded PostgreSQL in %s is recovering; waiting", started.folder)
        if waited > limits.patience:
            raise UnavailableError(f"the embedded PostgreSQL in {started.folder} is recovering")
        limits.sleep(pause)
        pause = min(2 * pause, 0.1)


def _show_log(started: ServerProcess) -> None:
    """Log the end of the log of a server that failed, once in this process."""
    if started.folder in _shown:
        return
    _shown.add(started.folder)
    tail = "".join(f"\n  {line}" for line in started.new_log()[-LOG_LINES:])
    log.error("the embedded PostgreSQL does not start; the end of %s:%s", started.log, tail)


def _socket_folder(cluster: Cluster, previous: Owner | None) -> Path:
    """Return where the server listens: its data folder, or a private folder with a short name."""
    folder = cluster.folder
    if previous and previous.socket_folder and is_private(Path(previous.socket_folder), folder):
        remove_short_folder(Path(previous.socket_folder))
    if connectable(folder):
        return folder
    short = short_folder()
    cluster.account.give(short)
    return short


def _is_running(folder: Path) -> bool:
    _reap()
    with FolderLock(folder) as lock:
        return lock.is_held() or without_lock(folder) is not None


_started: list[subprocess.Popen[bytes]] = []
"""Servers that this process started. A server that ended stays a zombie until `_reap` polls it."""

_shown: set[Path] = set()
"""Data folders whose server's log this process has shown."""


def _reap() -> None:
    _started[:] = [process for process in _started if process.poll() is None]
