"""Modules stay short. Ruff's PLR0913 limits the parameters of a function in the same way."""

import re
from collections.abc import Iterator
from pathlib import Path

from support.shell import ROOT

MOST_LINES = 300
"""A longer module has a second purpose."""

LONG_MODULE = re.compile(r"^# Over 300 lines: \w", re.MULTILINE)


def modules() -> Iterator[Path]:
    for folder in ("hpo", "models", "data", "benchmarks"):
        yield from (ROOT / folder).rglob("*.py")


def test_only_modules_that_say_why_are_long() -> None:
    """The reason is a comment, `# Over 300 lines: REASON`. A shorter module does not carry it."""
    texts = {path.relative_to(ROOT): path.read_text() for path in modules()}
    assert texts
    long = {path for path, text in texts.items() if len(text.splitlines()) > MOST_LINES}
    explained = {path for path, text in texts.items() if LONG_MODULE.search(text)}
    assert long == explained
