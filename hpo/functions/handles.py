"""A process of a training function as the operating system sees it: its number and its end."""

import os
import signal
import socket
import struct
import subprocess
from typing import Protocol

NUMBER = struct.Struct("i")
"""How a keeper tells a number: that of the process, then the exit code."""


class Handle(Protocol):
    """A process that has started. Nobody else gets its number before `release`."""

    @property
    def pid(self) -> int:
        """The number of the process."""

    def exit_code(self) -> int | None:
        """Return the exit code, minus the signal's number if a signal ended it; None while it lives."""

    def release(self) -> None:
        """Wait for the end of the process, and give its number back."""


class StartedProcess:
    """A child of this process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        if self._process.returncode is not None:
            return self._process.returncode
        end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if end is None:
            return None
        return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status

    def release(self) -> None:
        self._process.wait()


class ForkedProcess:
    """A grandchild that a template has forked. Its parent, the keeper, tells its end over a socket.

    The keeper keeps the number of the process until the socket closes. If a keeper is killed, the kernel
    kills the process as well.
    """

    def __init__(self, keeper: socket.socket, seconds: float) -> None:
        """Wait at most `seconds` for the number of the process. Raises `OSError` if there is none."""
        self._keeper = keeper
        self._code: int | None = None
        keeper.settimeout(seconds)
        number = self._receive()
        if number is None:
            raise OSError("the template has not forked")
        self._pid = number
        keeper.setblocking(False)

    @property
    def pid(self) -> int:
        return self._pid

    def exit_code(self) -> int | None:
        if self._code is None:
            try:
                self._code = self._received_code()
            except BlockingIOError:
                return None
        return self._code

    def release(self) -> None:
        if self._code is None:
            self._keeper.setblocking(True)
            self._code = self._received_code()
        self._keeper.close()

    def _received_code(self) -> int:
        code = self._receive()
        return -signal.SIGKILL if code is None else code

    def _receive(self) -> int | None:
        """Return the next number, None if the keeper is gone."""
        data = self._keeper.recv(NUMBER.size)
        number: int | None = NUMBER.unpack(data)[0] if len(data) == NUMBER.size else None
        return number
