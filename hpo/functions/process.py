"""The process of one training function, as its worker sees it."""

import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from hpo.functions.channel import DUMP_SIGNAL, Channel, ChannelClosedError, Message
from hpo.functions.failures import FunctionFailure, FunctionKilledError
from hpo.functions.forking import request_fork
from hpo.functions.guard import Guard, end_group
from hpo.functions.handles import ForkedProcess, Handle, StartedProcess
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


FORK_SECONDS = 5.0
"""How long a template may take to fork."""


@dataclass(frozen=True, slots=True)
class Ends:
    """This process's ends of what it shares with a process: channel, output, and requests to fork."""

    channel: socket.socket
    output: int
    forks: socket.socket | None = None


class FunctionProcess:
    """A process that has imported a function, or is about to. It serves one trial, or forks others that do.

    It leads a process group of its own, which ends with it. Its output goes to that of this process.
    """

    def __init__(self, handle: Handle, ends: Ends, dump: Path, guard: Guard) -> None:
        """Take a process that has started; see `start` and `fork`."""
        self._handle, self._dump, self._guard = handle, dump, guard
        self._channel, self._forks = Channel(ends.channel), ends.forks
        self._ready: Message | None = None
        self._has_ended = False
        guard.add(self.pid)
        self._output = threading.Thread(
            target=_forward, args=(ends.output,), name=f"output of {self.pid}", daemon=True
        )
        self._output.start()

    @classmethod
    def start(cls, reference: str, folder: Path, guard: Guard) -> "FunctionProcess":
        """Start a process. The files that it needs for itself are in `folder`."""
        dump = _new_dump(folder)
        (ours, theirs), (forks, requests) = socket.socketpair(), socket.socketpair()
        output, written = os.pipe()
        numbers = [theirs.fileno(), requests.fileno()]
        arguments = [*map(str, numbers), str(os.getpid()), reference, str(dump)]
        with theirs, requests, os.fdopen(written, "wb"):
            process = subprocess.Popen(
                [*PYTHON, "-m", "hpo.functions.child", *arguments],
                stdin=subprocess.DEVNULL,
                # A pipe of its own: what the function starts must not keep the output of the worker open.
                stdout=written,
                stderr=subprocess.STDOUT,
                pass_fds=numbers,
                env=child_environment(),
                start_new_session=True,
            )
        return cls(StartedProcess(process), Ends(ours, output, forks), dump, guard)

    def fork(self, folder: Path) -> "FunctionProcess | None":
        """Return a process for a trial that this one has forked; None if it cannot."""
        if self._forks is None or not self._may_fork():
            return None
        dump = _new_dump(folder)
        (ours, theirs), (end, keeper) = socket.socketpair(), socket.socketpair()
        output, written = os.pipe()
        try:
            with theirs, keeper, os.fdopen(written, "wb"):
                request_fork(self._forks, [theirs.fileno(), written, keeper.fileno()], dump)
            handle = ForkedProcess(end, FORK_SECONDS)
        except OSError:  # the template is dying
            for each in (ours, end):
                each.close()
            os.close(output)
            dump.unlink(missing_ok=True)
            return None
        return FunctionProcess(handle, Ends(ours, output), dump, self._guard)

    @property
    def pid(self) -> int:
        """Return the id of the process, which is that of its group and its session as well."""
        return self._handle.pid

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
        message, self._ready = self._ready, None
        if message is None:
            message = self._received(seconds)
        if message is not None and "failure" in message:
            failure = message["failure"]
            self.end()
            raise FunctionFailure(failure["reason"], failure["trace"])
        return message

    def _may_fork(self) -> bool:
        """Return whether the process has said that it is ready, and that a fork is like a new process."""
        if self._ready is None:
            with suppress(ChannelClosedError, ValueError):
                self._ready = self._channel.receive(0.0)
        return self._ready is not None and bool(self._ready.get("forks"))

    def _received(self, seconds: float) -> Message | None:
        """Return the next message in the channel. Raises as `receive` does if the process has ended."""
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
        self._handle.release()
        self._guard.remove(self.pid)
        self._channel.close()
        if self._forks is not None:
            self._forks.close()
        self._output.join(OUTPUT_SECONDS)
        self._dump.unlink(missing_ok=True)

    def _unexpected_end(self) -> Exception:
        self._wait(END_SECONDS)
        dump, has_exited = self._read_dump(), self._has_exited()
        self.kill()
        if not has_exited:
            return FunctionFailure("the function closed a file descriptor that is not its own", dump)
        code = self._handle.exit_code()
        assert code is not None, "the process has ended"
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
        return self._handle.exit_code() is not None

    def _read_dump(self) -> str:
        try:
            return self._dump.read_text(errors="replace")
        except OSError:
            return ""


def _new_dump(folder: Path) -> Path:
    descriptor, dump = mkstemp(dir=folder, suffix=".dump")
    os.close(descriptor)
    return Path(dump)


def _forward(output: int) -> None:
    """Write what a process writes."""
    with os.fdopen(output, "rb", buffering=0) as file:
        while data := file.read(65536):
            with suppress(OSError):
                os.write(1, data)
