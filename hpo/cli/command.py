"""Commands whose help ends with examples, and the options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class ExampleCommand(click.Command):
    """A command whose help ends with an example to paste."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class ExampleGroup(ExampleCommand, click.Group):
    """A group of commands; the group and each command have an example."""

    command_class = ExampleCommand

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of a first study, not of the alphabet


def command(example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Decorate the handler of a command. `example` is one command line or several."""
    return click.command(cls=ExampleCommand, example=example)


width = click.option(
    "--width", type=click.IntRange(min=1), help="Largest number of trials in one pack. Default: 16."
)


def device_options(function: F) -> F:
    """Add `--gpus`, `--per-device` and `--width` to a command that starts workers."""
    for option in (
        width,
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
            help="GPUs to use, numbered within CUDA_VISIBLE_DEVICES. Without a GPU, all means the CPU.",
        ),
    ):
        function = option(function)
    return function


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
study_name = click.argument("name", metavar="NAME")
