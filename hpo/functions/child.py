"""The process of a training function: `python -m hpo.functions.child CHANNEL FORKS WORKER FUNCTION DUMP`.

The process imports the module of the function, says that it is ready, and waits. It serves one trial and
ends, or it forks a process for each trial. It ends as well when its worker is gone.
"""

import atexit
import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from select import select
from socket import socket
from typing import Any

from hpo.errors import message_of
from hpo.functions.channel import DUMP_SIGNAL, Channel, ChannelClosedError
from hpo.functions.drive import Yielded, drive
from hpo.functions.forking import answer_fork, end_with_parent, may_fork, open_descriptors
from hpo.functions.measured import MetricsError
from hpo.functions.state_files import DirectoryCopies, StateFiles
from hpo.functions.trial import Trial
from hpo.source_code import source_hash
from hpo.user_code import describe, import_own
from hpo.values.out_of_memory import OUT_OF_MEMORY

_owners: set[int] = set()
"""The processes that end at once: not those that the function has forked."""


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


def main(descriptor: int, forks: int, worker: int, reference: str, dump: Path) -> None:
    """Serve a trial of the worker with that process id, or be the template of the processes that do.

    `descriptor` and `forks`: the sockets of the channel and of the requests to fork.
    """
    channel, requests = Channel(socket(fileno=descriptor)), socket(fileno=forks)
    requests.set_inheritable(False)
    end_with_parent(worker)
    _let_forks_end_on_sigterm()
    # The last of all handlers: tearing the interpreter down takes long, and nobody waits for what it frees.
    atexit.register(_exit)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _settle(dump)
    before = open_descriptors()
    with _answering(channel, reference):
        function: Any = import_own(reference, ImportFailedError)
        code = source_hash(reference.partition(":")[0])
        channel.send({"ready": True, "code": code, "forks": may_fork(before)})
        own = _wait_for_trial(channel, requests)
        if own is not channel:  # in a fork
            own.send({"ready": True, "code": code})
        with _answering(own, reference):
            _serve(own, _checked(function, reference))


@contextmanager
def _answering(channel: Channel, reference: str) -> Iterator[None]:
    """Tell the worker what is raised in the block."""
    pid = os.getpid()
    try:
        yield
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


def _wait_for_trial(channel: Channel, requests: socket) -> Channel:
    """Return the channel of a trial: that of this process, or in a fork its own."""
    own, others = channel.fileno(), requests.fileno()
    while own not in select([own, others], [], [])[0]:
        _flush()  # or each fork would write what is left again
        fork = answer_fork(requests)
        if fork is not None:
            channel.close()
            _settle(fork.dump)
            return Channel(socket(fileno=fork.channel))
    return channel


def _settle(dump: Path) -> None:
    """Let this process write where it is into `dump`, live on at SIGTERM, and end at once in the end."""
    _owners.add(os.getpid())
    # A scheduler may send SIGTERM to all processes, and the worker decides. A handler and not SIG_IGN, which
    # programs inherit that the function starts.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    dump_file = dump.open("w")  # faulthandler keeps it open
    faulthandler.enable(dump_file, all_threads=False)
    faulthandler.register(DUMP_SIGNAL, dump_file, all_threads=False)


def _serve(channel: Channel, function: Callable[[Trial], Any]) -> None:
    # What the function forks and lets run on must not commit epochs beside it.
    os.register_at_fork(after_in_child=channel.close)
    start = channel.receive()
    assert start is not None
    trial, commit = _trial(start, channel)
    drive(function, trial, start["objective"], commit)


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


def _let_forks_end_on_sigterm() -> None:
    """Let SIGTERM end what the function forks, even if it arrives before the fork is complete."""

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


def _exit() -> None:
    _flush()
    if os.getpid() in _owners:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
