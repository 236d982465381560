"""`hpo report`."""

from pathlib import Path

import click

from hpo.cli.command import as_json, command, study_name
from hpo.cli.output import json_result, result


@command("hpo report lenet\nhpo report lenet -o report.html")
@study_name
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write. Default: NAME.html in the current directory.",
)
@as_json
def report(name: str, output: Path | None, as_json: bool) -> None:
    """Write a page about a study: results, curves, costs, provenance.

    The page is one file that opens without a network. It may be written at any time, also of a running study.
    """
    from hpo.report import make_report, read_study, render
    from hpo.report.file import write
    from hpo.run.environment import open_study

    _, storage, study = open_study(name)
    page = render(make_report(read_study(storage, study)))
    path = output or Path(f"{study.name}.html")
    write(path, page)
    json_result({"file": str(path)}) if as_json else result(str(path))
