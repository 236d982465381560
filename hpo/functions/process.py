"""The process of one training function, as its worker sees it."""

import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

from hpo.functions.channel import DUMP_SIGNAL, Channel, ChannelClosedError, Message
from hpo.functions.failures import FunctionFailure, FunctionKilledError
from hpo.functions.guard import Guard, end_group
from hpo.functions.memory import memory_of
from hpo.settings import PYTHON, child_environment
from hpo.user_code import place_in_dump

FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that somebody else sends, such as the system when memory runs out."""

END_SECONDS = 5.0
"""How long a function that has to end may take to close what it has open."""

OUTPUT_SECONDS = 1.0
"""How long the last output of a process is waited for. What has left the group may hold it open."""

POLL_SECONDS = 0.1
"""How often a wait without limits looks whether the process lives."""

DUMP_SECONDS = 0.5
"""How long a process may take to write where it is."""


class FunctionProcess:
    """A process that has imported a function, or is about to, and serves one trial.

    It leads a process group of its own, which ends with it. Its output goes to that of this process.
    """

    def __init__(self, reference: str, folder: Path, guard: Guard) -> None:
        """Start the process. The files that it needs for itself are in `folder`."""
        ours, theirs = socket.socketpair()
        descriptor, dump = mkstemp(dir=folder, suffix=".dump")
        os.close(descriptor)
        self._dump, self._guard = Path(dump), guard
        arguments = [str(theirs.fileno()), str(os.getpid()), reference, dump]
        with theirs:
            self._process = subprocess.Popen(
                [*PYTHON, "-m", "hpo.functions.child", *arguments],
                stdin=subprocess.DEVNULL,
                # A pipe of its own: what the function starts must not keep the output of the worker open.
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env=child_environment(),
                start_new_session=True,
            )
        guard.add(self.pid)
        self._channel = Channel(ours)
        self._ready: Message | None = None
        self._has_ended = False
        self._output = threading.Thread(target=self._forward, name=f"output of {self.pid}", daemon=True)
        self._output.start()

    @property
    def pid(self) -> int:
        """Return the id of the process, which is that of its group and its session as well."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Return whether the process has neither ended nor been ended."""
        return not self._has_ended and not self._has_exited()

    def send(self, message: Message) -> None:
        """Send a message. If the process has died, the next `receive` says so."""
        with suppress(ChannelClosedError):
            self._channel.send(message)

    def receive(self, seconds: float) -> Message | None:
        """Return the next message, None if there is none within `seconds`.

        The first message is that the function is imported. Raises `FunctionFailure` if the function failed or
        ended the process, and `FunctionKilledError` if somebody has killed the process.
        """
        if self._ready is not None:
            ready, self._ready = self._ready, None
            return ready
        try:
            message = self._channel.receive(seconds)
            # What the function has forked may hold the channel open.
            if message is None and self._has_exited():
                message = self._channel.receive(0.0)
                if message is None:
                    raise ChannelClosedError
        except ChannelClosedError:
            raise self._unexpected_end() from None
        except ValueError as error:
            self.kill()
            raise FunctionFailure("the function wrote into a file descriptor that is not its own") from error
        if message is not None and "failure" in message:
            failure = message["failure"]
            self.end()
            raise FunctionFailure(failure["reason"], failure["trace"])
        return message

    def wait_until_ready(self) -> Message:
        """Return the first message, which `receive` returns again. Raises as `receive` does."""
        while self._ready is None:
            self._ready = self.receive(POLL_SECONDS)
        return self._ready

    def memory(self, limit: int) -> int:
        """Return the bytes that the process and its children use, see `memory_of`."""
        return memory_of(self.pid, limit)

    def place(self) -> tuple[str | None, str]:
        """Return the line of the user's code that the process is in, and the traceback of its main thread."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, DUMP_SIGNAL)
        deadline = time.monotonic() + DUMP_SECONDS
        while time.monotonic() < deadline and not self._read_dump():
            time.sleep(0.01)
        return place_in_dump(self._read_dump()), self._read_dump()

    def end(self, seconds: float = END_SECONDS) -> None:
        """Let a function that waits between two epochs close what it has open, and end the process."""
        if self._has_ended:
            return
        self._channel.close()
        self._wait(seconds)
        self.kill()

    def kill(self) -> None:
        """Kill the process with all that it has started."""
        if self._has_ended:
            return
        self._has_ended = True
        # Before the process is waited for: until then, nobody else can get its number.
        end_group(self.pid)
        self._process.wait()
        self._guard.remove(self.pid)
        self._channel.close()
        self._output.join(OUTPUT_SECONDS)
        self._dump.unlink(missing_ok=True)

    def _unexpected_end(self) -> Exception:
        self._wait(END_SECONDS)
        dump, has_exited = self._read_dump(), self._has_exited()
        self.kill()
        if not has_exited:
            return FunctionFailure("the function closed a file descriptor that is not its own", dump)
        code = self._process.returncode
        if code >= 0:
            return FunctionFailure(f"its process ended with exit code {code}", dump)
        name = signal.Signals(-code).name
        if -code in FROM_OUTSIDE:
            return FunctionKilledError(name)
        place = place_in_dump(dump)
        return FunctionFailure(f"its process was ended by {name}" + (f" at {place}" if place else ""), dump)

    def _wait(self, seconds: float) -> None:
        """Wait at most `seconds` for the process to exit, and leave its number to it."""
        deadline, pause = time.monotonic() + seconds, 0.0005
        while not self._has_exited() and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, 0.05)

    def _has_exited(self) -> bool:
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _read_dump(self) -> str:
        try:
            return self._dump.read_text(errors="replace")
        except OSError:
            return ""

    def _forward(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            while data := os.read(output.fileno(), 65536):
                with suppress(OSError):
                    os.write(1, data)
