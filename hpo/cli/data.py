"""`hpo data ...`: commands on the data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpo.cli.command import ExampleGroup, as_json
from hpo.cli.output import json_result, message, result

if TYPE_CHECKING:  # it imports numpy
    from hpo.data import Labelled


@click.group(cls=ExampleGroup, example="hpo data fetch emnist-byclass\nhpo data info digits")
def data() -> None:
    """List, fetch and describe data sets."""


@data.command("list", example="hpo data list")
@as_json
def list_(as_json: bool) -> None:
    """List the data sets by name."""
    from hpo.data import names

    if as_json:
        json_result(list(names()))
        return
    for name in names():
        result(name)


@data.command(example="hpo data fetch emnist-byclass")
@click.argument("name", metavar="NAME")
def fetch(name: str) -> None:
    """Download a data set into HPO_DATA_DIR and check it."""
    from hpo import data
    from hpo.settings import Settings

    folder = Settings.from_environment().data_path
    data.check(name)
    message(f"fetching {name} into {folder}")
    data.fetch(name, folder)
    message(f"{name} is ready")


@data.command(example="hpo data info emnist-byclass --sheet sheet.png")
@click.argument("name", metavar="NAME")
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Write a contact sheet (PNG).")
@as_json
def info(name: str, sheet: Path | None, as_json: bool) -> None:
    """Describe the training part.

    Examples per class, and the mean and standard deviation of each channel or feature.
    """
    from hpo import data

    data.check(name)
    from hpo.data.statistics import statistics
    from hpo.settings import Settings

    dataset = data.open_dataset(name, Settings.from_environment().data_path)
    train = dataset.load_train()
    figures = statistics(train, dataset.classes)
    if sheet is not None and (dataset.classes is None or not train.is_images):
        raise data.DataInputError(f"{name}: a contact sheet is for images with classes; leave out --sheet")
    if sheet is not None and dataset.classes is not None:
        from hpo.data.contact_sheet import contact_sheet

        contact_sheet(train, dataset.classes, sheet)
        message(f"contact sheet: {sheet}")
    if as_json:
        json_result(
            {
                "name": dataset.name,
                **_shapes(train),
                "classes": figures.counts,
                "mean": figures.mean,
                "std": figures.std,
                "sha256": train.sha256(),
            }
        )
        return
    from hpo.cli.data_table import data_table

    result(data_table(dataset.name, train, figures))


def _shapes(train: Labelled) -> dict[str, object]:
    if train.is_images:
        return {"images": len(train), "channels": train.channels, "size": train.size}
    return {"examples": len(train), "input": train.shape, "target": train.labels.shape[1:]}


__all__ = ["data"]
