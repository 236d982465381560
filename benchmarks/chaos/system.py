"""The system under fire: `hpo run` with its workers, its database and its folders."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError, ProgrammingError

from benchmarks.chaos.server import Server, connection
from hpo.store import schema

T = TypeVar("T")

WORKERS = 4
WIDTH = 4
LEASE_SECONDS = 3.0

NAME = "chaos"
"""The study's."""

_STUDY = """
seed = 1
[model]
name = "lenet"
[data]
name = "digits"
mini = 0.5
validation = 0.4
[space]
lr = [1e-3, 3e-3, 1e-2, 3e-2]
batch_size = [64, 128]
momentum = [0, 0.9]
weight_decay = [0, 1e-4]
[engine]
compile = "{compile}"
[sampler]
name = "random"
[pruner]
name = "{pruner}"
[search]
trials = {trials}
epochs = {epochs}
[full]
clip = 1.0
pretrain = {{ epochs = {epochs}, patience = 10 }}
finetune = {{ epochs = {epochs}, patience = 10 }}
augment = {{ rotation = 10, shift = 0.07 }}
[promotion]
top = 2
seeds = 2
"""


def study_file(
    trials: int, epochs: int, compile: Literal["always", "never"], pruner: Literal["none", "pause"] = "none"
) -> str:
    """A study whose curves do not depend on who trains what, and when; without pauses nothing does."""
    return _STUDY.format(trials=trials, epochs=epochs, compile=compile, pruner=pruner)


class ChaosError(Exception):
    """The system did not do in time what it must, or ended when it must not."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the system; `words`: its command line, its parent's until it has one of its own."""

    pid: int
    words: tuple[str, ...]

    @property
    def worker(self) -> str | None:
        """Its name, if it is a worker."""
        return dict(pairwise(self.words)).get("--name")


class System:
    """A study on a database of its own, under `hpo run`, in a folder that is made for it."""

    def __init__(self, server: Server, folder: Path, study: str) -> None:
        self.server, self.folder = server, folder
        self.log = folder / "log"
        self.artifacts = folder / "artifacts"
        """A link to the folder, so that a fault can take it away, and bring it back, in one step."""
        self.recoveries: list[float] = []
        """Seconds from the SIGKILL of a worker to the next claim of one of its trials."""
        self.violations: list[str] = []
        self._lasting: list[tuple[float, Callable[[], None]]] = []
        (folder / "stored").mkdir(parents=True)
        self.artifacts.symlink_to(folder / "stored")
        (folder / f"{NAME}.toml").write_text(study)
        programs = folder.parent / "programs"  # those of all systems: they are compiled once
        for made in (programs, folder / "home"):
            made.mkdir(exist_ok=True)
        (folder / "home" / "programs").symlink_to(programs)
        server.create_database(folder.name)
        self.url = server.url(folder.name)
        self._mark = f"HPO_HOME={folder / 'home'}".encode()
        self._run: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Calls `hpo run`, the first time or again."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HPO_")}
        settings = {
            "HPO_STORAGE_URL": self.url.set(drivername="postgresql").render_as_string(hide_password=False),
            "HPO_HOME": str(self.folder / "home"),
            "HPO_ARTIFACTS": str(self.artifacts),
            "HPO_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
        }
        options = ("--gpus", "cpu", "--per-device", str(WORKERS), "--width", str(WIDTH))
        with self.log.open("ab") as log:
            self._run = subprocess.Popen(
                [sys.executable, "-m", "hpo", "run", f"{NAME}.toml", *options],
                cwd=self.folder,
                env={**kept, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def launcher(self) -> "subprocess.Popen[bytes]":
        assert self._run is not None
        return self._run

    def ended(self) -> bool:
        """Whether the study is through. Raises `ChaosError` if `hpo run` ended in another way."""
        code = self.launcher.poll()
        if code:
            raise ChaosError(f"hpo run ended with exit code {code}, and no fault had ended it")
        return code == 0

    def processes(self) -> list[Process]:
        """All that live, orphans too: each has our `HPO_HOME` in its environment."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # another user's, or gone by now; a dead one has no environment
                if self._mark in (folder / "environ").read_bytes().split(b"\0"):
                    words = (folder / "cmdline").read_bytes().decode().split("\0")
                    found.append(Process(int(folder.name), tuple(words)))
        return found

    def signal(self, process: Process, number: signal.Signals) -> None:
        """A process that has ended meanwhile is let be."""
        if process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def limit_files(self, process: Process, size: int) -> None:
        """No file of the process grows beyond `size` bytes any more: writing fails, as on a full quota."""
        with suppress(ProcessLookupError):
            if process not in self.processes():
                return
            hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def later(self, seconds: float, end: Callable[[], None]) -> None:
        """A fault goes on, beside those that come after it, until `end` ends it after so many seconds."""
        self._lasting.append((time.monotonic() + seconds, end))

    def end_faults(self, due: float) -> None:
        """Ends the lasting faults that end before `due`, in seconds of the monotonic clock."""
        for fault in [fault for fault in self._lasting if fault[0] <= due]:
            self._lasting.remove(fault)
            fault[1]()

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Asks the database, again while it is away. Raises `ChaosError` after a minute of that."""

        def answer() -> tuple[T] | None:
            with suppress(OperationalError), connection(self.url) as opened:
                return (question(opened),)
            return None

        return self.wait("an answer of the database", answer, seconds=60, until_end=False)[0]

    def wait(self, what: str, look: Callable[[], T | None], seconds: float, *, until_end: bool = True) -> T:
        """What `look` finds, once it finds something. Raises `ChaosError` when the time is over.

        With `until_end` the end of the study ends the waiting too, by `EndedError`. Lasting faults that are
        due are ended meanwhile.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.end_faults(time.monotonic())
            found = look()
            if found is not None:
                return found
            if until_end and self.ended():
                raise EndedError
            if time.monotonic() > deadline:
                raise ChaosError(f"waited {seconds:.0f} s for {what}, in vain")
            time.sleep(0.05)

    def epochs(self) -> int:
        """The number of reported epochs."""
        return self.ask(_count_epochs)

    def leases(self) -> Mapping[str, dict[int, int]]:
        """By worker, the tokens of the leases that it holds, by trial id."""
        return self.ask(_live_leases)

    def leases_of(self, process: Process) -> dict[int, int]:
        """The tokens of the leases that a worker holds, by trial id."""
        assert process.worker is not None
        return self.leases().get(process.worker, {})

    def busy_worker(self, draw: random.Random) -> Process:
        """A process with a worker's name that holds leases and is not frozen."""

        def look() -> Process | None:
            holders = self.leases()
            busy = [p for p in self.processes() if p.worker in holders and not is_stopped(p)]
            return draw.choice(sorted(busy, key=lambda process: process.pid)) if busy else None

        return self.wait("a worker that trains", look, seconds=60)

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def bad_lines(self) -> list[str]:
        """Lines of the log that must not be there: a worker that trains ends on SIGTERM by itself, with 0."""
        unwanted = ("Traceback (most recent call last)", "was killed by SIGTERM", "ended with exit code")
        lines = self.log.read_text(errors="replace").splitlines()
        return [f"log: {line}" for line in lines if any(words in line for words in unwanted)]

    def kill_all(self) -> None:
        """SIGKILL to every process, as when the machine goes."""

        def kill() -> bool | None:
            alive = self.processes()
            for process in alive:
                self.signal(process, signal.SIGKILL)
            if self._run is not None:
                self._run.poll()
            return None if alive else True

        self.wait("the end of all processes", kill, seconds=30, until_end=False)


class EndedError(Exception):
    """The study came to its end before what was waited for."""


def is_stopped(process: Process) -> bool:
    """Whether it is frozen by SIGSTOP."""
    with suppress(OSError):
        state = re.search(r"^State:\s+(\S)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
        return state is not None and state[1] == "T"
    return False


def _count_epochs(opened: Connection) -> int:
    try:
        return opened.execute(select(func.count()).select_from(schema.epochs)).scalar_one()
    except ProgrammingError:  # the tables are not there yet
        return 0


def _live_leases(opened: Connection) -> Mapping[str, dict[int, int]]:
    table = schema.leases
    held: dict[str, dict[int, int]] = {}
    try:
        held_by = select(table).where(table.c.worker.is_not(None), table.c.expires > func.now())
        rows = opened.execute(held_by).all()
    except ProgrammingError:
        return held
    for row in rows:
        held.setdefault(row.worker, {})[row.trial_id] = row.token
    return held
