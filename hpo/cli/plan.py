"""`hpo plan`: what a study will take, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpo.cli.command import as_json, command, device_options
from hpo.cli.output import json_result, message, result
from hpo.values.wording import byte_text, counted, duration_text

if TYPE_CHECKING:
    from hpo.run.plan import Figure, Plan


@command("hpo plan studies/lenet.toml\nhpo plan studies/lenet.toml --gpus 0,1 --json")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@device_options
@click.option(
    "--measure", is_flag=True, help="Train one epoch of a training function, which may have effects."
)
@as_json
# Six parameters: click passes each option by its name.
def plan(  # noqa: PLR0913
    file: Path, gpus: str, per_device: int | None, width: int | None, measure: bool, as_json: bool
) -> None:
    """Say what a study will take on this machine: epochs, time, device hours, disk.

    Measures a few steps of the network on each device, as many processes at once as workers would train.
    What has to be compiled is compiled, and later workers reuse the programs. Nothing is stored. A training
    function is called with --measure only. Without, its time is not known.
    """
    from hpo.launch.executors.local import local_executor
    from hpo.run.planning import plan_study
    from hpo.settings import Settings
    from hpo.spec.study_spec import StudySpec

    spec = StudySpec.load(file)
    executor = local_executor(gpus, per_device, width, spec.make_resources())
    settings = Settings.from_environment()
    if measure or not spec.is_function:
        message("measuring one epoch" if spec.is_function else "measuring a few steps")
    plan = plan_study(spec, str(file), settings, executor, measure)
    json_result(plan.to_json()) if as_json else result(plan_table(plan))


def plan_table(plan: Plan) -> str:
    """Return a row for each figure of a plan, and below a line for the basis of each."""
    from hpo.cli.layout import Screen, Table

    screen = Screen.of_stdout()
    rows = [(figure.name, *_cells(figure)) for figure in plan.figures]
    title = f"Plan of {plan.study}: {counted(plan.workers, 'worker')} on {plan.device}"
    table = screen.show(Table(title, ("", "least", "expected", "most"), rows))
    return "\n".join([table, "", *(screen.wrap(f"{figure.name}: {figure.basis}") for figure in plan.figures)])


def _cells(figure: Figure) -> list[str]:
    return [_text(figure, number) for number in (figure.low, figure.expected, figure.high)]


def _text(figure: Figure, number: float | None) -> str:
    if number is None:
        return "-"
    match figure.unit:
        case "seconds":
            return duration_text(number)
        case "bytes":
            return byte_text(number)
        case "device hours":
            return f"{number:.2g}"
        case _:
            return f"{number:,.0f}"
