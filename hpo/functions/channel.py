"""Messages between a worker and the process of a training function: lines of JSON over a socket.

The socket has a file descriptor of its own, so a function may print, and may close standard output.
"""

import json
import select
import signal
from collections.abc import Mapping
from socket import socket
from typing import Any

Message = Mapping[str, Any]

DUMP_SIGNAL = signal.SIGUSR2
"""Lets the process of a function write where it is, even while it holds the interpreter's lock."""


class ChannelClosedError(Exception):
    """The other process has closed the channel, or has ended."""


class Channel:
    """One end of the socket. It belongs to one thread."""

    def __init__(self, end: socket) -> None:
        """Use this end, and do not let programs inherit it that this process starts."""
        end.set_inheritable(False)
        self._socket = end
        self._received = b""

    def fileno(self) -> int:
        """Return the file descriptor, for `select`."""
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Send a message. Raises `ChannelClosedError`."""
        try:
            self._socket.sendall(f"{json.dumps(message)}\n".encode())
        except OSError as error:
            raise ChannelClosedError from error

    def receive(self, seconds: float | None = None) -> Message | None:
        """Return the next message, None if there is none within `seconds`; without `seconds`, wait.

        Raises `ChannelClosedError`, and `ValueError` for what is no message.
        """
        while b"\n" not in self._received:
            if seconds is not None and not select.select([self._socket], [], [], seconds)[0]:
                return None
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                raise ChannelClosedError from error
            if not data:
                raise ChannelClosedError
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("no message")
        return message

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
