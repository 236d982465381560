"""Fork the process of a trial from a process that has imported the function: a template.

A fork starts in milliseconds, and has its own memory. It is what a new process would be only if nothing of
the template is shared or lost: threads do not survive a fork, and open files share their position.
"""

import ctypes
import os
import signal
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hpo.functions.channel import ChannelClosedError
from hpo.functions.handles import NUMBER

PR_SET_PDEATHSIG = 1

SELF = Path("/proc/self")

MAX_PATH = 4096


@dataclass(frozen=True, slots=True)
class Fork:
    """What the process of a trial gets: the descriptor of its channel, and the path of its dump."""

    channel: int
    dump: Path


def open_descriptors() -> frozenset[str]:
    """Return the open file descriptors, by what they are open on. Empty where the system does not say."""
    descriptors = set()
    for entry in SELF.glob("fd/*"):
        with suppress(OSError):  # that of the listing itself has closed
            descriptors.add(f"{entry.name} {entry.readlink()}")
    return frozenset(descriptors)


def may_fork(before: frozenset[str]) -> bool:
    """Return whether a fork of this process is like a new one.

    There is one thread, and what was imported since `before` has left no file or connection open.
    """
    threads = len(list(SELF.glob("task/*")))
    return threads == 1 and bool(before) and open_descriptors() <= before


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, where it can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def request_fork(requests: socket.socket, descriptors: Iterable[int], dump: Path) -> None:
    """Ask a template for a process with these descriptors: channel, output, keeper. Raises `OSError`."""
    socket.send_fds(requests, [os.fsencode(dump)], list(descriptors))


def answer_fork(requests: socket.socket) -> Fork | None:
    """Answer a request. Return the fork in the process of the trial, None in the template.

    Raises `ChannelClosedError` if the worker has closed its end.
    """
    dump, descriptors, _, _ = socket.recv_fds(requests, MAX_PATH, 3)
    if not dump:
        raise ChannelClosedError
    channel, output, keeper = descriptors
    template = os.getpid()
    if os.fork() != 0:
        for descriptor in descriptors:
            os.close(descriptor)
        _reap()
        return None
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the worker decides
    end_with_parent(template)
    parent = os.getpid()
    pid = os.fork()
    if pid != 0:
        _keep(pid, keeper)
    end_with_parent(parent)
    os.setsid()
    os.close(keeper)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    requests.close()
    return Fork(channel, Path(os.fsdecode(dump)))


def _keep(pid: int, descriptor: int) -> NoReturn:
    """Tell the number and the exit code of a child. Keep the number until the worker closes the socket."""
    try:
        os.closerange(3, descriptor)
        os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
        with socket.socket(fileno=descriptor) as keeper:
            keeper.sendall(NUMBER.pack(pid))
            end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert end is not None, "without WNOHANG, a wait ends with the child"
            code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
            keeper.sendall(NUMBER.pack(code))
            keeper.recv(1)
    finally:
        os._exit(0)


def _reap() -> None:
    """Forget the keepers that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
