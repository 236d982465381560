"""The process of one training function: `python -m hpo.functions.child DESCRIPTOR WORKER FUNCTION DUMP`.

The process imports the module of the function, says that it is ready, and waits for a trial. It serves one
trial and ends. It ends as well when its worker is gone.
"""

import atexit
import ctypes
import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

from hpo.errors import message_of
from hpo.functions.channel import DUMP_SIGNAL, Channel, ChannelClosedError
from hpo.functions.drive import Yielded, drive
from hpo.functions.measured import MetricsError
from hpo.functions.state_files import DirectoryCopies, StateFiles
from hpo.functions.trial import Trial
from hpo.source_code import source_hash
from hpo.user_code import describe, import_own
from hpo.values.out_of_memory import OUT_OF_MEMORY

PR_SET_PDEATHSIG = 1


class ImportFailedError(Exception):
    """The function cannot be imported. The message is one line."""


@dataclass(frozen=True, slots=True)
class Committing:
    """Sends epochs to the worker, and waits for the answer."""

    channel: Channel
    trial: Trial
    states: StateFiles
    copies: DirectoryCopies

    def __call__(self, yielded: Yielded) -> bool:
        trained = self.trial.trained
        if trained and yielded.epoch == trained + 1 and not self.states.was_loaded:
            with suppress(OSError, ValueError, AttributeError):  # the function may have closed it
                sys.stderr.write(
                    f"warning: trial {self.trial.number} goes on after epoch {trained}, and its function has "
                    "not called trial.load()\n"
                )
        _flush()
        self.channel.send(
            {
                "epoch": yielded.epoch,
                "metrics": yielded.metrics,
                "is_last": yielded.is_last,
                "state": self.states.commit(),
                "files": self.copies.take(),
            }
        )
        if yielded.is_last:
            return False
        self.channel.receive()  # the worker decides between two epochs; it closes the channel to end this one
        return True


def main(descriptor: int, worker: int, reference: str, dump: Path) -> None:
    """Serve one trial of the worker with that process id."""
    channel = Channel(socket(fileno=descriptor))
    pid = os.getpid()
    _end_with_worker(worker)
    _ignore_sigterm()
    dump_file = dump.open("w")  # open to the end, for the signal handlers
    faulthandler.enable(dump_file, all_threads=False)
    faulthandler.register(DUMP_SIGNAL, dump_file, all_threads=False)
    # The last of all handlers: tearing the interpreter down takes long, and nobody waits for what it frees.
    atexit.register(_exit, pid)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        _serve(channel, reference)
    except ChannelClosedError:
        pass  # the trial was paused or pruned, or the worker is gone
    except BaseException as error:
        if os.getpid() != pid:  # a process that the function has forked
            raise
        if isinstance(error, KeyboardInterrupt):  # somebody has sent SIGINT: not the function's fault
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(pid, signal.SIGINT)
        with suppress(ChannelClosedError):
            channel.send({"failure": _failure(error, reference)})


def _serve(channel: Channel, reference: str) -> None:
    function: Any = import_own(reference, ImportFailedError)
    channel.send({"ready": True, "code": source_hash(reference.partition(":")[0])})
    start = channel.receive()
    assert start is not None
    trial, commit = _trial(start, channel)
    drive(_checked(function, reference), trial, start["objective"], commit)


def _trial(start: Mapping[str, Any], channel: Channel) -> tuple[Trial, Committing]:
    folder, directory = Path(start["folder"]), Path(start["directory"])
    states = StateFiles(folder, start["state"])
    trial = Trial(**start["trial"], directory=directory, states=states)
    return trial, Committing(channel, trial, states, DirectoryCopies(directory, folder))


def _checked(function: Any, reference: str) -> Callable[[Trial], Any]:
    if not callable(function):
        raise ImportFailedError(f"{reference}: {type(function).__name__} cannot be called")
    checked: Callable[[Trial], Any] = function
    return checked


def _failure(error: BaseException, reference: str) -> dict[str, str]:
    reason = describe(error, reference.partition(":")[0])
    if isinstance(error, ImportFailedError | MetricsError):
        reason = str(error)
    elif _is_out_of_memory(error):
        reason = f"out of memory: {reason}"
    return {"reason": reason, "trace": "".join(traceback.format_exception(error))}


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, of the host or of a GPU; torch is not imported to find out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in message_of(error) for words in OUT_OF_MEMORY)


def _end_with_worker(worker: int) -> None:
    """Let the kernel kill this process when the worker ends, where it can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker:
        os._exit(1)


def _ignore_sigterm() -> None:
    """Let SIGTERM end nothing: a scheduler may send it to all processes, and the worker decides.

    A handler and not SIG_IGN, which programs inherit that the function starts. In what the function forks,
    SIGTERM ends the process, even if it arrives before the fork is complete.
    """
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)

    def mask(how: int) -> None:
        signal.pthread_sigmask(how, {signal.SIGTERM})

    def after_in_child() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        mask(signal.SIG_UNBLOCK)

    os.register_at_fork(
        before=partial(mask, signal.SIG_BLOCK),
        after_in_parent=partial(mask, signal.SIG_UNBLOCK),
        after_in_child=after_in_child,
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # the function may have closed it
            stream.flush()


def _exit(owner: int) -> None:
    _flush()
    if os.getpid() == owner:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
