"""The two streams of a command: results on stdout, messages on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hpo.study.lifecycle import Stopped
    from hpo.study.study import Study


def prepare_streams() -> None:
    """Make all three streams usable: a closed stream becomes an empty one, and any text can be printed."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream = getattr(sys, name)
        if stream is None:
            with suppress(OSError):
                os.fstat(number)
                continue  # another file has this number
            os.open(os.devnull, os.O_RDWR)  # the next free number is that of the stream
            setattr(sys, name, open(number, mode))  # noqa: SIM115, PTH123 - it stays open
        elif mode == "w" and isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def message(text: str) -> None:
    """Print a message for a person on stderr. Where nobody can read messages, the command goes on."""
    with suppress(OSError):
        click.echo(text, err=True)


def discard_output() -> None:
    """Drop the text that could not be written to stdout, so that Python does not try it again at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def result(text: str) -> None:
    """Print a result on stdout."""
    click.echo(text)


def json_result(value: object) -> None:
    """Print a result on stdout as indented JSON."""
    result(to_json(value, indent=2))


def to_json(value: object, indent: int | None = None) -> str:
    """Return plain values as JSON, which has no NaN and no infinities: they become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


def say_stopped(study: Study, mark: Stopped) -> None:
    """Print why a study is stopped, and how to resume it."""
    message(f"study {study.name}: {mark.reason}; to continue: hpo study resume {study.name}")
