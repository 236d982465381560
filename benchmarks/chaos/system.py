"""The system under test: `hpo run` with its workers, its database and its folders."""

import os
import random
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError, ProgrammingError

from benchmarks.chaos.files import NAME, Files
from benchmarks.chaos.server import Server, connection
from hpo.settings import PYTHON
from hpo.store import schema

T = TypeVar("T")

WORKERS = 4
WIDTH = 4
LEASE_SECONDS = 3.0

FUNCTION_PROCESS = "hpo.functions.child"
"""The module that the process of a training function runs."""


class ChaosError(Exception):
    """The system missed a deadline, or ended without cause."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the system. `words` is its command line, that of its parent until it calls exec."""

    pid: int
    words: tuple[str, ...]

    @property
    def worker(self) -> str | None:
        """Return the worker's name, None for another process."""
        return dict(pairwise(self.words)).get("--name")


class System:
    """A study under `hpo run`, with its own database and its own new folder."""

    def __init__(self, server: Server, folder: Path, files: Files) -> None:
        self.server, self.folder = server, folder
        self.log = folder / "log"
        self.artifacts = folder / "artifacts"
        """A link to the artifact folder, so that a fault can remove and restore it in one step."""
        self.recoveries: list[float] = []
        """Seconds from the SIGKILL of a worker to the next claim of one of its trials."""
        self.violations: list[str] = []
        self._active: list[tuple[float, Callable[[], None]]] = []
        (folder / "stored").mkdir(parents=True)
        self.artifacts.symlink_to(folder / "stored")
        (folder / f"{NAME}.toml").write_text(files.study)
        for name, module in files.modules.items():
            (folder / name).write_text(module)
        programs = folder.parent / "programs"  # shared by all systems, so that they are compiled once
        for new in (programs, folder / "home"):
            new.mkdir(exist_ok=True)
        (folder / "home" / "programs").symlink_to(programs)
        server.create_database(folder.name)
        self.url = server.url(folder.name)
        self._mark = f"HPO_HOME={folder / 'home'}".encode()
        self._run: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Call `hpo run`, the first time or again."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HPO_")}
        settings = {
            "HPO_STORAGE_URL": self.url.set(drivername="postgresql").render_as_string(hide_password=False),
            "HPO_HOME": str(self.folder / "home"),
            "HPO_ARTIFACTS": str(self.artifacts),
            "HPO_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
        }
        options = ("--gpus", "cpu", "--per-device", str(WORKERS), "--width", str(WIDTH))
        with self.log.open("ab") as log:
            self._run = subprocess.Popen(
                [*PYTHON, "-m", "hpo", "run", f"{NAME}.toml", *options],
                cwd=self.folder,
                env={**environment, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def launcher(self) -> "subprocess.Popen[bytes]":
        assert self._run is not None
        return self._run

    def ended(self) -> bool:
        """Return whether `hpo run` has finished the study. Raises `ChaosError` if it failed."""
        code = self.launcher.poll()
        if code:
            raise ChaosError(f"hpo run ended with exit code {code}, and no fault had ended it")
        return code == 0

    def processes(self) -> list[Process]:
        """Return all live processes, orphans included, by the `HPO_HOME` in their environment."""
        processes = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it is another user's, or has ended
                if self._mark in (folder / "environ").read_bytes().split(b"\0"):
                    words = (folder / "cmdline").read_bytes().decode().split("\0")
                    processes.append(Process(int(folder.name), tuple(words)))
        return processes

    def signal(self, process: Process, number: signal.Signals) -> None:
        """Send a signal to a process, unless it has ended."""
        if process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def limit_files(self, process: Process, size: int) -> None:
        """Limit the files of a process to `size` bytes. Writing more fails, as on a full quota."""
        with suppress(ProcessLookupError):
            if process not in self.processes():
                return
            hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def later(self, seconds: float, end: Callable[[], None]) -> None:
        """Call `end` after some seconds, to end a fault that lasts while other faults strike."""
        self._active.append((time.monotonic() + seconds, end))

    def end_faults(self, due: float) -> None:
        """End the lasting faults that are due at `due`, in seconds of the monotonic clock."""
        for fault in [fault for fault in self._active if fault[0] <= due]:
            self._active.remove(fault)
            _, end = fault
            end()

    def query(self, function: Callable[[Connection], T]) -> T:
        """Call a function with a connection, again while the database is away.

        Raises `ChaosError` after a minute.
        """

        def answer() -> tuple[T] | None:
            with suppress(OperationalError), connection(self.url) as opened:
                return (function(opened),)
            return None

        return self.wait("an answer of the database", answer, seconds=60, until_end=False)[0]

    def wait(self, event: str, look: Callable[[], T | None], seconds: float, *, until_end: bool = True) -> T:
        """Call `look` until it returns something, and return that.

        Lasting faults end in time meanwhile. Raises `ChaosError` after `seconds`. With `until_end`, raises
        `EndedError` when the study ends.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.end_faults(time.monotonic())
            value = look()
            if value is not None:
                return value
            if until_end and self.ended():
                raise EndedError
            if time.monotonic() > deadline:
                raise ChaosError(f"waited {seconds:.0f} s for {event}, in vain")
            time.sleep(0.05)

    def epochs(self) -> int:
        """Return the number of reported epochs."""
        return self.query(_count_epochs)

    def leases(self) -> Mapping[str, dict[int, int]]:
        """Return the tokens of live leases by trial id, by worker."""
        return self.query(_live_leases)

    def leases_of(self, process: Process) -> dict[int, int]:
        """Return the tokens of a worker's live leases, by trial id."""
        assert process.worker is not None
        return self.leases().get(process.worker, {})

    def busy_worker(self, draw: random.Random) -> Process:
        """Return a random worker that holds leases and is not stopped."""

        def look() -> Process | None:
            holders = self.leases()
            busy = [
                process
                for process in self.processes()
                if process.worker in holders and not is_stopped(process)
            ]
            return draw.choice(sorted(busy, key=lambda process: process.pid)) if busy else None

        return self.wait("a worker that trains", look, seconds=60)

    def running_function(self, draw: random.Random) -> Process:
        """Return a random process of a training function."""

        def look() -> Process | None:
            functions = [process for process in self.processes() if FUNCTION_PROCESS in process.words]
            return draw.choice(sorted(functions, key=lambda process: process.pid)) if functions else None

        return self.wait("a process of a training function", look, seconds=60)

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def bad_lines(self) -> list[str]:
        """Return log lines that no fault explains. After SIGTERM, a worker must end with exit code 0."""
        unwanted = ("Traceback (most recent call last)", "was killed by SIGTERM", "ended with exit code")
        lines = self.log.read_text(errors="replace").splitlines()
        return [f"log: {line}" for line in lines if any(words in line for words in unwanted)]

    def kill_all(self) -> None:
        """Send SIGKILL to every process, as when the machine loses power."""

        def kill() -> bool | None:
            alive = self.processes()
            for process in alive:
                self.signal(process, signal.SIGKILL)
            if self._run is not None:
                self._run.poll()  # reaps it
            return None if alive else True

        self.wait("the end of all processes", kill, seconds=30, until_end=False)


class EndedError(Exception):
    """The study ended before the awaited event."""


def is_stopped(process: Process) -> bool:
    """Return whether a process is stopped by SIGSTOP."""
    with suppress(OSError):
        state = re.search(r"^State:\s+(\S)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
        return state is not None and state[1] == "T"
    return False


def _count_epochs(opened: Connection) -> int:
    try:
        return opened.execute(select(func.count()).select_from(schema.epochs)).scalar_one()
    except ProgrammingError:  # the tables do not exist yet
        return 0


def _live_leases(opened: Connection) -> Mapping[str, dict[int, int]]:
    table = schema.leases
    by_worker: dict[str, dict[int, int]] = {}
    try:
        query = select(table).where(table.c.worker.is_not(None), table.c.expires > func.now())
        rows = opened.execute(query).all()
    except ProgrammingError:  # the tables do not exist yet
        return by_worker
    for row in rows:
        by_worker.setdefault(row.worker, {})[row.trial_id] = row.token
    return by_worker
