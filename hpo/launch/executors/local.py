"""Workers as processes of this machine."""

import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hpo.errors import InputError
from hpo.launch.devices import this_machine
from hpo.launch.executors.base import Executor, Listener, WorkerCommand
from hpo.launch.placement import UNSET, Machine, place
from hpo.launch.slot import Slot, common_environment
from hpo.launch.standby import Assignment
from hpo.settings import PYTHON, child_environment
from hpo.values.resources import Resources

WORKER = (*PYTHON, "-m", "hpo", "worker")


def local_executor(
    gpus: str = "all",
    per_device: int | None = None,
    width: int | None = None,
    resources: Resources = UNSET,
) -> "LocalExecutor":
    """Return an executor on the devices of this machine.

    `gpus`: `all`, `cpu`, or ordinals such as `0,1`; without a GPU, `all` means the CPU. `per_device`: workers
    on each device; by default one per GPU, or one per core. `width`: the most trials in one pack.
    `resources`: what a trial of a training function needs, `spec.make_resources()`. Raises `InputError` for
    resources that are not there, and for numbers below 1.
    """
    is_without = resources.gpus == 0 and gpus == "all"  # then no GPU has to be counted
    return executor_on(this_machine("cpu" if is_without else gpus), per_device, width, resources)


def executor_on(
    machine: Machine, per_device: int | None, width: int | None, resources: Resources = UNSET
) -> "LocalExecutor":
    """Return an executor on a machine, as `local_executor` does."""
    for name, value in (("per_device", per_device), ("width", width)):
        if value is not None and value < 1:
            raise InputError(f"{name} = {value}: must be at least 1")
    return LocalExecutor(place(machine, resources, per_device), width)


class LocalExecutor(Executor):
    """Processes that run `program`. The environment of a slot pins its worker to a device."""

    def __init__(
        self, slots: Sequence[Slot], width: int | None = None, program: Sequence[str] = WORKER
    ) -> None:
        self.slots, self.width, self._program = slots, width, program

    def start(self, name: str, command: WorkerCommand, slot: Slot, listener: Listener) -> "WorkerProcess":
        """Start a process."""
        return self._start(name, command, ["--device", slot.device], slot.environment, listener)

    def start_standby(self, name: str, command: WorkerCommand, listener: Listener) -> "WorkerProcess":
        """Start a process that gets a slot on its standard input."""
        return self._start(name, command, ["--standby"], common_environment(self.slots), listener)

    def _start(
        self,
        name: str,
        command: WorkerCommand,
        options: Sequence[str],
        environment: Mapping[str, str],
        listener: Listener,
    ) -> "WorkerProcess":
        words = [*self._program, *command.arguments, "--name", name, "--lifeline", *options]
        return WorkerProcess(words, {**command.environment, **environment}, listener)


class WorkerProcess:
    """A process with a pipe to its standard input, which this process holds.

    However this process ends, the pipe closes and the worker stops (see `hpo worker --lifeline`).
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], listener: Listener) -> None:
        self._listener = listener
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=child_environment(**environment),
            # An interrupt from the terminal is for the launcher, which then stops its processes in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"lines of {self._process.pid}", daemon=True)
        self._reader.start()

    @property
    def code(self) -> int | None:
        """The exit code, minus the signal's number if the process was killed. None: it is alive."""
        return self._process.poll()

    def assign(self, slot: Slot) -> bool:
        """Give a standby a slot; return whether the standby received it."""
        assert self._process.stdin is not None
        if self.code is not None:
            return False
        try:
            self._process.stdin.write(Assignment(slot.device, slot.environment).to_line())
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def stop(self) -> None:
        """Ask the process to end, and wake it if it is frozen."""
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the process to end; return whether it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.code is not None

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def join_output(self, seconds: float) -> None:
        """Wait at most `seconds` until the last line is read."""
        self._reader.join(seconds)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._listener.line(line.rstrip())
        self._process.wait()
        self._listener.ended()
