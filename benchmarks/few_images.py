"""Train one network on a few images of EMNIST ByClass, on a CPU, to show that its training loss falls.

For a network that only a large GPU can train, such as EnsNet: an image costs 12,000 times as much as with
LeNet. The study has one cell and stays in the storage. No test image is read.
"""

import logging
import os
import sys
from argparse import Namespace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.command import parser
from benchmarks.results import Result

IMAGES = "FEW_IMAGES"
"""The environment variable with the number of images, which workers inherit."""

SHARE = 0.5
"""Share of the images that validates. With less, a class would need more images."""

Array = npt.NDArray[Any]


def load() -> tuple[Array, Array, Array, Array, tuple[str, ...]]:
    """Return the first training images of each class, in equal numbers, as a data set of a user.

    The test part has as many further training images.
    """
    from hpo.data.registry import open_dataset
    from hpo.settings import Settings

    dataset = open_dataset("emnist-byclass", Settings.from_environment().data_path)
    classes, train = dataset.classes, dataset.load_train()
    assert classes is not None
    count = int(os.environ[IMAGES]) // len(classes)
    rows = np.array([first_rows(train.labels, number, 2 * count) for number in range(len(classes))])
    parts = rows[:, :count].ravel(), rows[:, count:].ravel()
    (images, labels), (others, other_labels) = ((train.images[part], train.labels[part]) for part in parts)
    return images, labels, others, other_labels, classes


def first_rows(labels: Array, number: int, count: int) -> Array:
    """Return the places of the first `count` images of a class."""
    rows: Array = np.flatnonzero(labels == number)[:count]
    if len(rows) < count:
        sys.exit(f"class {number} has {len(rows)} images, and {count} are needed: take fewer --images")
    return rows


def parse_options() -> Namespace:
    options = parser(__doc__)
    options.add_argument("--model", default="ensnet", help="default ensnet")
    options.add_argument("--images", type=int, default=248, help="training images (default 248, the fewest)")
    options.add_argument("--epochs", type=int, default=8, help="epochs of full training (default 8)")
    options.add_argument("--lr", type=float, default=0.05, help="learning rate (default 0.05)")
    options.add_argument("--batch-size", type=int, default=16, help="default 16")
    return options.parse_args()


def main() -> None:
    # Workers import this module for `load` alone, and need nothing of the following.
    from benchmarks.paper.studies import Plan, default_point, single_cell
    from benchmarks.paper.trained import read_trained
    from benchmarks.paper.training import Trainer
    from hpo.errors import HpoError
    from hpo.run.logs import log_to_stderr

    arguments = parse_options()
    log_to_stderr(logging.INFO)
    os.environ[IMAGES] = str(arguments.images)
    plan = Plan(arguments.model)
    point = {**default_point(plan.study()), "lr": arguments.lr, "batch_size": arguments.batch_size}
    spec = plan.spec(
        {
            **single_cell(point),
            "name": f"{arguments.model}-few-{arguments.images}-{arguments.epochs}-{arguments.lr:g}",
            "data": {"name": "benchmarks.few_images:load", "mini": SHARE, "validation": SHARE},
            "full": {"recipe": "modern", "pretrain": {"epochs": arguments.epochs}, "augment": False},
            "promotion": {"top": 1, "seeds": 1},
            "engine": {"compile": "never"},
        }
    )
    result = Result.begin("few_images", f"{arguments.model} on {arguments.images} images", 1)
    try:
        trainer = Trainer.open(per_device=1)
        trained = read_trained(trainer.storage, trainer.train(spec))
    except HpoError as error:
        sys.exit(f"benchmarks.few_images: {error}")
    for training in trained.trainings:
        heads = ("epoch", "training loss", "validation loss", "validation %")
        table = result.table(f"{arguments.model}: losses by epoch", heads)
        for epoch, (loss, validation, accuracy) in enumerate(training.curve, 1):
            table.add(str(epoch), *cells(loss, validation, accuracy))
    result.values[arguments.model] = trained.to_json()
    result.write(arguments.json)


def cells(loss: float | None, validation: float | None, accuracy: float | None) -> list[str]:
    """Return the cells of an epoch; one that another program has damaged is empty."""
    if loss is None or validation is None or accuracy is None:
        return ["", "", ""]
    return [f"{loss:.4f}", f"{validation:.4f}", f"{100 * accuracy:.1f}"]


if __name__ == "__main__":
    main()
