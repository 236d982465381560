"""Make the picture of the quickstart in the README: what a terminal shows at the end of the run.

python -m benchmarks.picture docs/images/quickstart.svg
"""

import argparse
import fcntl
import io
import os
import pty
import re
import struct
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from benchmarks.command import HPO

SIZE = (100, 60)
"""Columns and rows of the terminal."""

STUDY = "studies/quickstart.toml"

CONTROL = re.compile(r"\x1b\[(?P<number>\d*)(?P<command>[A-HJKhl])|\x1b\[\?25[hl]|\r")
"""The sequences that rich's live display writes, but for colours."""

SHOWN_HOME = "/home/ada/.local/share/hpo"
"""The `HPO_HOME` in the picture."""


def run_on_terminal(command: Sequence[str], environment: dict[str, str]) -> str:
    """Run a command on a terminal of `SIZE`; return what it has written. Ends this program if it fails."""
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe(command[0], list(command), {**os.environ, **environment, "TERM": "xterm-256color"})
    columns, rows = SIZE
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    output = b"".join(_read(terminal)).decode()
    _, status = os.waitpid(process, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} failed:\n{output}")
    return output


def _read(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the command has ended
            return
        if not part:
            return
        yield part


def last_state(output: str) -> list[str]:
    """Return the lines that a terminal shows at the end, with their colours."""
    lines, index = [""], 0
    position = 0
    for match in [*CONTROL.finditer(output), None]:
        text = output[position : match.start() if match else len(output)]
        for number, part in enumerate(text.split("\n")):
            if number:
                index += 1
            if index == len(lines):
                lines.append("")
            lines[index] += part
        if match is None:
            break
        position = match.end()
        if match["command"] == "A":
            index = max(0, index - int(match["number"] or 1))
        elif match["command"] == "K":
            lines[index] = ""
    return lines


def draw(lines: Sequence[str], file: Path) -> None:
    """Write the lines of a terminal as an SVG picture."""
    console = Console(record=True, width=SIZE[0], file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    console.save_svg(str(file), title=f"hpo run {STUDY}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hpo-") as home:
        environment = {"HPO_HOME": home}
        run_on_terminal([*HPO, "server", "start"], environment)
        try:
            output = run_on_terminal([*HPO, "run", STUDY], environment)
        finally:
            run_on_terminal([*HPO, "server", "stop"], environment)
    lines = [line.replace(home, SHOWN_HOME) for line in last_state(output)]
    draw([f"$ hpo run {STUDY}", *lines], arguments.file)


if __name__ == "__main__":
    main()
