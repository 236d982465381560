"""`hpo evaluate`: the metrics of an exported model on any data set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpo.cli.command import as_json, command
from hpo.cli.output import json_result, message, result

if TYPE_CHECKING:  # it imports numpy
    from hpo.run.evaluate import Part


@command(
    "hpo evaluate best-lenet --part train\n"
    "hpo evaluate best-lenet --data mydata:load --part all --json\n"
    "hpo evaluate best-lenet --analysis errors"
)
@click.argument("bundle", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--data",
    metavar="NAME",
    help="Data set, or your own function. Default: the data set that the model was trained on.",
)
@click.option(
    "--part",
    type=click.Choice(["train", "test", "all"]),
    default="test",
    show_default=True,
    help="Part of the data set; all means both.",
)
@click.option(
    "--analysis",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write an analysis of the errors to this folder.",
)
@click.option("--device", default="cpu", show_default=True, help="A torch device: cpu, cuda:0, ...")
@as_json
# Six parameters: click passes each option by its name.
def evaluate(  # noqa: PLR0913
    bundle: Path, data: str | None, part: Part, analysis: Path | None, device: str, as_json: bool
) -> None:
    """Measure an exported model on a data set.

    The metrics are those of metrics.json. Classes are matched by name: the data set may lack classes of the
    model, but not the other way round. Images of another size are scaled. The command never writes to the
    bundle.
    """
    from hpo.run import evaluate as evaluation

    if analysis is not None:
        from hpo.export.analysis.folder import is_analysis
        from hpo.export.bundle_folder import check_folder

        check_folder(analysis, is_analysis)
    request = evaluation.EvaluationRequest(bundle, data, part, device, analysis is not None)
    with _progress() as show:
        done = evaluation.evaluate(request, show)
    for note in done.notes:
        message(note)
    if analysis is not None:
        from hpo.export.analysis import analysis_files
        from hpo.export.analysis.folder import write_folder

        write_folder(analysis, analysis_files(done.analysed()).files)
        message(f"analysis: {analysis / 'errors.md'}")
    if as_json:
        json_result(
            {
                "bundle": str(bundle),
                "data": done.data,
                "part": part,
                "notes": done.notes,
                "metrics": done.metrics.to_json(),
            }
        )
        return
    result(f"{done.data}, {'both parts' if part == 'all' else f'{part} part'}: {done.metrics.describe()}")
    for line in done.metrics.details():
        result(line)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Yield what shows the progress: a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _advance, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(advance: int, total: int) -> None:
            bar.update(task, total=total, advance=advance)

        yield show
