"""The two streams of a command: results on stdout, messages on stderr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hpo.study.lifecycle import Stopped
    from hpo.study.study import Study


def message(text: str) -> None:
    """Print a message for a person on stderr."""
    click.echo(text, err=True)


def result(text: str) -> None:
    """Print a result on stdout."""
    click.echo(text)


def json_result(value: object) -> None:
    """Print a result on stdout as indented JSON."""
    result(json.dumps(value, indent=2, ensure_ascii=False))


def say_stopped(study: Study, mark: Stopped) -> None:
    """Print why a study is stopped, and how to resume it."""
    message(f"study {study.name}: {mark.reason}; to continue: hpo study resume {study.name}")
