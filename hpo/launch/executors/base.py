"""What an executor is: a place that starts workers, stops them, and says how they ended."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hpo.launch.slot import Slot


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """What every worker of a launcher runs: `python -m hpo worker` with `arguments`.

    An executor appends `--name` and `--device`. `environment` is added to that of the worker's machine. It
    has the `HPO_*` variables, and may hold a password.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listener:
    """Callbacks by which an executor reports on one worker. Any thread may call them.

    `line` takes a line of the worker's output. `ended` is called once `WorkerHandle.code` is known.
    """

    line: Callable[[str], None]
    ended: Callable[[], None]


class WorkerHandle(Protocol):
    """A worker that was started."""

    @property
    def code(self) -> int | None:
        """The exit code, minus the signal's number if the worker was killed. None: it has not ended.

        A worker whose machine is lost counts as killed by SIGKILL.
        """

    def stop(self) -> None:
        """Ask the worker to hand its trials back and end, as SIGTERM does. Wake it if it is frozen."""

    def kill(self) -> None:
        """End the worker at once."""

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the worker to end; return whether it has ended."""

    def join_output(self, seconds: float) -> None:
        """Wait at most `seconds` until `Listener.line` has got the last line."""


class Standby(WorkerHandle, Protocol):
    """A worker that has loaded everything and waits for a slot."""

    def assign(self, slot: Slot) -> bool:
        """Give the standby a slot; return whether it received the slot.

        If True, the standby holds the slot even if it has ended meanwhile. Its trials are then reclaimed like
        those of any worker.
        """


class Executor(ABC):
    """A place with room for one worker in each of `slots`. `width`: the most trials in one pack of a worker.

    The launcher decides when workers start, restart and stop. A worker must end when the launcher is gone,
    however it ended. If `start` or `start_standby` raises, the launcher stops all workers and raises.
    """

    slots: Sequence[Slot]
    width: int | None = None

    @abstractmethod
    def start(self, name: str, command: WorkerCommand, slot: Slot, listener: Listener) -> WorkerHandle:
        """Start a worker. `name` is its name in leases and logs."""

    def start_standby(self, name: str, command: WorkerCommand, listener: Listener) -> Standby | None:  # noqa: ARG002
        """Start a worker that waits for any of the slots. None: this executor keeps no standby."""
        return None
