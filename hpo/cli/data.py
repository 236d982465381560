"""`hpo data ...`: the images."""

from pathlib import Path

import click

from hpo.cli.shared import ExampleGroup, as_json, json_result, result, settings, words


@click.group(cls=ExampleGroup, example="hpo data fetch emnist-byclass\nhpo data info digits")
def data() -> None:
    """Fetch and look at data sets."""


@data.command("list", example="hpo data list")
def list_() -> None:
    """List the data sets by name."""
    from hpo import data as sets

    for name in sets.names():
        result(name)


@data.command(example="hpo data fetch emnist-byclass")
@click.argument("name", metavar="NAME")
def fetch(name: str) -> None:
    """Download a data set into HPO_DATA_DIR and check it."""
    from hpo import data as sets

    folder = settings().data_path
    sets.check(name)
    words(f"fetching {name} into {folder}")
    sets.fetch(name, folder)
    words(f"{name} is ready")


@data.command(example="hpo data info emnist-byclass --sheet sheet.png")
@click.argument("name", metavar="NAME")
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Write a contact sheet (PNG).")
@as_json
def info(name: str, sheet: Path | None, as_json: bool) -> None:
    """Describe the training images.

    How many of each class, and the mean and standard deviation of the pixels.
    """
    from hpo import data as sets

    sets.check(name)
    from hpo.data.statistics import statistics

    dataset = sets.open_dataset(name, settings().data_path)
    train = dataset.load_train()
    found = statistics(train, dataset.classes)
    if sheet is not None:
        from hpo.data.contact_sheet import contact_sheet

        contact_sheet(train, dataset.classes, sheet)
        words(f"contact sheet: {sheet}")
    if as_json:
        json_result(
            {
                "name": dataset.name,
                "images": len(train),
                "channels": train.channels,
                "size": train.size,
                "classes": found.counts,
                "mean": found.mean,
                "std": found.std,
                "sha256": train.sha256(),
            }
        )
        return
    from hpo.cli.tables import data_table

    result(data_table(dataset.name, train, found))


__all__ = ["data"]
