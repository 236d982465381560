"""Wait for real processes and look at them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def wait_for_line(process: subprocess.Popen[str], words: str) -> str:
    """Return the next line of the process's output that contains `words`."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return line
    raise AssertionError(f"it ended without saying {words!r}:\n{''.join(lines)}")


def until(description: str, poll: Callable[[], T | None], seconds: float = 60) -> T:
    """Call `poll` until it returns something else than None, and return that.

    The only place where tests sleep. Another process's state raises no event in this process, so it has to be
    polled. `seconds` only ends a test that hangs. No test passes or fails by how long a poll took.
    """
    deadline = time.monotonic() + seconds
    while (result := poll()) is None:
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {description}"
        time.sleep(0.05)
    return result


def until_gone(pids: Iterable[int]) -> None:
    """Wait until these processes have ended, whether or not this process started them."""
    expected = set(pids)

    def poll() -> bool | None:
        return None if any(map(_is_alive, expected)) else True

    until(f"the end of {expected}", poll)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie has ended; its parent has not read its exit code yet


def children(parent: int) -> dict[int, str]:
    """Return the command lines of a process's children by process id, in the order of their start."""
    command = ["pgrep", "-P", str(parent), "-a"]
    lines = subprocess.run(command, text=True, capture_output=True, check=False).stdout.splitlines()
    return {int(pid): words for pid, _, words in (line.partition(" ") for line in lines)}
