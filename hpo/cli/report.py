"""`hpo report`."""

from pathlib import Path

import click

from hpo.cli.command import as_json, command, study_name
from hpo.cli.output import json_result, result


@command("hpo report lenet\nhpo report lenet -o report.html\nhpo report lenet lenet-wide -o comparison.html")
@study_name
@click.argument("other", metavar="[NAME2]", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write. Default: NAME.html in the current directory, or NAME-NAME2.html.",
)
@as_json
def report(name: str, other: str | None, output: Path | None, as_json: bool) -> None:
    """Write a page about a study: results, warnings, curves, costs, provenance.

    The page is one file that opens without a network. It may be written at any time, also of a running study.
    With a second name, the page compares the two studies.
    """
    from hpo.report import compare_studies, make_report, read_study, render
    from hpo.report.file import write
    from hpo.run.environment import open_study
    from hpo.study.stored import load

    _, storage, study = open_study(name)
    data = read_study(storage, study)
    if other is None:
        made, stem = make_report(data), study.name
    else:
        second = load(storage, other)
        made, stem = compare_studies(data, read_study(storage, second)), f"{study.name}-{second.name}"
    path = output or Path(f"{stem}.html")
    write(path, render(made))
    json_result({"file": str(path)}) if as_json else result(str(path))
