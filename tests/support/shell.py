"""The real `hpo`, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[2]

SMALL_STUDY = """
seed = 1
[model]
name = "lenet"
[data]
name = "digits"
mini = 0.5
validation = 0.4
[space]
lr = [1e-3, 1e-2, 1e-1]
batch_size = [16, 32, 64]
momentum = [0, 0.9]
weight_decay = [0, 1e-4]
[sampler]
name = "random"
[pruner]
name = "none"
[search]
trials = 12
epochs = 3
[full]
pretrain = { epochs = 2 }
finetune = { epochs = 1 }
[promotion]
top = 1
seeds = 2
"""


@dataclass
class Shell:
    """A folder to work in and the environment of a user."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HPO_")}
        return {**kept, "HPO_HOME": str(self.folder / "home"), **self.variables}

    def hpo(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs `hpo` to its end; fails the test on another exit code than `expect`, if one is expected."""
        done = subprocess.run(
            [sys.executable, "-m", "hpo", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=280,
            check=False,
        )
        assert expect is None or done.returncode == expect, f"hpo {arguments}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments: str, lifeline: bool = False) -> subprocess.Popen[str]:
        """Starts `hpo` and leaves it running, at most until the test ends; its two streams come as one.

        `lifeline`: whether its standard input is a pipe.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "hpo", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """Ends what a test that failed left running: workers end with their launcher."""
        for process in self._started:
            process.kill()
            process.wait()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    """The next line of the process that contains `words`."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if words in line:
            return line
    raise AssertionError(f"it ended without saying {words!r}:\n{''.join(said)}")


def until(what: str, look: Callable[[], T | None], seconds: float = 60) -> T:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return found


def until_gone(pids: Iterable[int]) -> None:
    """Waits for the end of processes, whoever started them."""
    left = set(pids)

    def look() -> bool | None:
        return None if any(map(_is_alive, left)) else True

    until(f"the end of {left}", look)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # nobody has asked yet how it ended


def children(parent: int) -> dict[int, str]:
    """The command lines of the processes it started, by process id, in the order they were started in."""
    listed = ["pgrep", "-P", str(parent), "-a"]
    lines = subprocess.run(listed, text=True, capture_output=True, check=False).stdout.splitlines()
    return {int(pid): command for pid, _, command in (line.partition(" ") for line in lines)}
