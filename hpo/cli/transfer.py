"""`hpo transfer`: an exported network for the classes of another data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpo.cli.command import as_json, command
from hpo.cli.output import json_result, message, result

if TYPE_CHECKING:
    from hpo.transfer.recipe import Layers


@command("hpo transfer best-lenet --data mnist -o lenet-mnist")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--data", required=True, metavar="NAME", help="A name of `hpo data list`, or your own function."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="FOLDER",
    help="Write the new bundle to this folder.",
)
@click.option(
    "--layers",
    type=click.Choice(["last", "all"]),
    default="last",
    show_default=True,
    help="Train the new last layer alone, or the whole network.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=5, show_default=True, help="Number of epochs.")
@click.option("--lr", type=float, help="Learning rate of SGD. Default: 0.1, with all layers 0.3.")
@click.option(
    "--batch-size", type=click.IntRange(min=2), default=64, show_default=True, help="Images per step."
)
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**32 - 1), default=0, show_default=True, help="Random seed."
)
@click.option("--device", help="A torch device. Default: the first GPU, or the CPU without a GPU.")
@as_json
# One parameter for each option of the command.
def transfer(  # noqa: PLR0913
    bundle: Path,
    data: str,
    output: Path,
    layers: Layers,
    epochs: int,
    lr: float | None,
    batch_size: int,
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Train an exported network for the classes of another data set.

    The last layer is new. A tenth of the training images decides which epoch is kept. The test part
    is scored once, at the end. Images are scaled to the input size of the network.
    """
    from hpo.transfer import TransferRecipe, transfer_bundle

    recipe = TransferRecipe(layers, epochs, lr, batch_size, seed)
    written = transfer_bundle(bundle, data, output, recipe, device)
    message(f"test: {written.metrics.describe()}")
    if not as_json:
        result(str(output))
        return
    json_result(
        {
            "bundle": str(output),
            "data": data,
            "new_layers": written.provenance["transfer"]["new_layers"],
            "metrics": written.metrics.to_json(),
        }
    )
