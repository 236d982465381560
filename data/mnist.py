"""MNIST and its relatives, EMNIST and Fashion-MNIST, fetched and read with torchvision.

torchvision checks what it downloads but of what it reads only that it exists, so headers and sizes are
checked here first.
"""

import string
import zipfile
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import EMNIST, MNIST, FashionMNIST

from data import idx
from data.dataset import DataError, Dataset, Labelled


def open_mnist(name: str, root: Path) -> Dataset:
    """The data set `name` (mnist, fashion-mnist or emnist-SPLIT) under `root`. Reads no file yet."""
    return Dataset(name, _classes(name), partial(_read, name, root, True), partial(_read, name, root, False))


def fetch_mnist(name: str, root: Path) -> None:
    """Download what `root` lacks of `name`. Raises DataError when that fails, or for a damaged file."""
    _refuse_processed(name, root)
    for train in (True, False):
        try:
            if not all(path.is_file() for path in _files(name, root, train)):
                _source(name)(root, train=train, download=True)
        except (OSError, EOFError, HTTPException, RuntimeError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{name} could not be downloaded to {_raw(name, root)}: {reason}") from error
        _check(name, root, train)


def _read(name: str, root: Path, train: bool) -> Labelled:
    # Both parts have to be there, or a study might find only at its end that there is nothing to test on.
    for path in (*_files(name, root, True), *_files(name, root, False)):
        if not path.is_file():
            raise DataError(
                f"{path.parent} has no {path.name}: run `hpo data fetch {name}`, "
                f"or set HPO_DATA_DIR to the folder that holds {path.relative_to(root).parent}"
            )
    _refuse_processed(name, root)
    _check(name, root, train)
    source = _source(name)(root, train=train, download=False)
    images, labels = source.data.numpy(), source.targets.numpy()
    if name.startswith("emnist-"):
        # The files hold columns where rows should be.
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
    if name == "emnist-letters":
        labels = labels - 1  # the files count letters from 1
    return Labelled(images, labels)


def _check(name: str, root: Path, train: bool) -> None:
    images, labels = _files(name, root, train)
    image_count, label_count = idx.shape(images, 3)[0], idx.shape(labels, 1)[0]
    if image_count != label_count:
        raise DataError(
            f"{images} has {image_count} images and {labels.name} {label_count} labels: one for each"
        )


def _refuse_processed(name: str, root: Path) -> None:
    processed = _raw(name, root).parent / "processed"
    if processed.exists():
        raise DataError(f"{processed} is of an old torchvision and would be read in place of raw: delete it")


def _source(name: str) -> Callable[..., Any]:
    others: dict[str, Callable[..., Any]] = {"mnist": MNIST, "fashion-mnist": FashionMNIST}
    return others.get(name) or partial(EMNIST, split=name.removeprefix("emnist-"))


def _classes(name: str) -> tuple[str, ...]:
    if name == "mnist":
        return tuple(string.digits)  # torchvision's are "0 - zero"
    if name == "fashion-mnist":
        return tuple(FashionMNIST.classes)
    names = EMNIST.classes_split_dict[name.removeprefix("emnist-")]
    return tuple(names[1:] if name == "emnist-letters" else names)  # no class bears the letters' label 0


def _raw(name: str, root: Path) -> Path:
    folder = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}.get(name, "EMNIST")
    return root / folder / "raw"


def _files(name: str, root: Path, train: bool) -> tuple[Path, Path]:
    if name.startswith("emnist-"):
        prefix = f"{name}-{'train' if train else 'test'}"
    else:
        prefix = "train" if train else "t10k"
    raw = _raw(name, root)
    return raw / f"{prefix}-images-idx3-ubyte", raw / f"{prefix}-labels-idx1-ubyte"
