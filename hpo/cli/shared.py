"""What several commands have in common: examples in help, options, output, opened studies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from hpo.settings import Settings
    from hpo.store.connection import Storage
    from hpo.study.study import Study

F = TypeVar("F", bound=Callable[..., Any])


class _WithExample(click.Command):
    """A command whose help ends with an example that can be pasted."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class ExampleGroup(_WithExample, click.Group):
    """A group of commands, which all show an example."""

    command_class = _WithExample

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order one meets them


def command(example: str) -> Callable[[Callable[..., Any]], click.Command]:
    return click.command(cls=_WithExample, example=example)


def words(text: str) -> None:
    """Says something to the person: on stderr."""
    click.echo(text, err=True)


def result(text: str) -> None:
    """Gives a result: on stdout."""
    click.echo(text)


def json_result(value: object) -> None:
    result(json.dumps(value, indent=2, ensure_ascii=False))


def settings() -> Settings:
    from hpo.settings import Settings

    return Settings.from_environment()


def opened(name: str) -> tuple[Settings, Storage, Study]:
    """The storage of the environment and the study `name` in it."""
    from hpo.store.connection import open_storage
    from hpo.study.study import load

    found = settings()
    storage = open_storage(found)
    return found, storage, load(storage, name)


def is_stopped(storage: Storage, study: Study) -> bool:
    """Whether the whole study is stopped; says so."""
    from hpo.study.lifecycle import stopped

    mark = stopped(storage, study, "full")
    if mark is not None:
        words(f"study {study.name}: {mark.reason}; to go on: hpo study resume {study.name}")
    return mark is not None


def device_options(function: F) -> F:
    """`--gpus`, `--per-device` and `--width`, for commands that start workers."""
    for option in (
        click.option(
            "--width",
            type=click.IntRange(min=1),
            help="Most trials that a worker trains as one pack. Default: 16.",
        ),
        click.option(
            "--per-device",
            type=click.IntRange(min=1),
            help="Workers on each device. Default: one per GPU; on the CPU one per core, at most 8.",
        ),
        click.option(
            "--gpus",
            default="all",
            show_default=True,
            metavar="all|0,1|cpu",
            help="Which GPUs, counted among those that CUDA_VISIBLE_DEVICES leaves; all is the CPU "
            "where there is none.",
        ),
    ):
        function = option(function)
    return function


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
study_name = click.argument("name", metavar="NAME")
