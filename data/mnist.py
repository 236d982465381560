"""MNIST, EMNIST and Fashion-MNIST, downloaded with torchvision.

The files are read without torchvision: its import takes a second, and it checks only that files exist.
"""

import string
import zipfile
from functools import partial
from http.client import HTTPException
from pathlib import Path

import numpy as np

from hpo.data import idx
from hpo.data.dataset import DataError, Dataset, Labelled
from hpo.data.signature import file_signature
from hpo.errors import one_line

BY_CLASS = string.digits + string.ascii_uppercase + string.ascii_lowercase
MERGED = "cijklmopsuvwxyz"
"""Letters whose two cases are one class in EMNIST's ByMerge and Balanced (Cohen et al. 2017)."""
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def open_mnist(name: str, root: Path) -> Dataset:
    """Return the data set `name` (mnist, fashion-mnist or emnist-SPLIT) under `root`. Reads no file yet."""
    return Dataset(name, _classes(name), partial(_read, name, root, True), partial(_read, name, root, False))


def fetch_mnist(name: str, root: Path) -> None:
    """Download the files of `name` that `root` lacks.

    Raises DataError if the download fails or a file is damaged.
    """
    _refuse_processed(name, root)
    for train in (True, False):
        try:
            if not all(path.is_file() for path in _files(name, root, train)):
                _download(name, root, train)
        except (OSError, EOFError, HTTPException, RuntimeError, zipfile.BadZipFile) as error:
            place = _raw(name, root)
            raise DataError(f"{name} could not be downloaded to {place}: {one_line(error)}") from error
        _check(name, root, train)


def mnist_signature(name: str, root: Path) -> str | None:
    """Return the signature of the files of `name` under `root`, None if one is missing."""
    readers = (Path(__file__), Path(idx.__file__))
    return file_signature([*_files(name, root, True), *_files(name, root, False), *readers], name)


def _read(name: str, root: Path, train: bool) -> Labelled:
    # Both parts must exist. Otherwise a study would learn only at its end that it has no test images.
    for path in (*_files(name, root, True), *_files(name, root, False)):
        if not path.is_file():
            raise DataError(
                f"{path.parent} has no {path.name}: run `hpo data fetch {name}`, "
                f"or set HPO_DATA_DIR to the folder that holds {path.relative_to(root).parent}"
            )
    _check(name, root, train)
    image_file, label_file = _files(name, root, train)
    images, labels = idx.read(image_file, 3), idx.read(label_file, 1).astype(np.int64)
    if name.startswith("emnist-"):
        # EMNIST's files are transposed.
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
    if name == "emnist-letters":
        labels = labels - 1  # the files number letters from 1
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
        raise DataError(f"{processed} is of an old torchvision and would be taken for all of it: delete it")


def _download(name: str, root: Path, train: bool) -> None:
    from torchvision.datasets import EMNIST, MNIST, FashionMNIST

    if name.startswith("emnist-"):
        EMNIST(root, split=name.removeprefix("emnist-"), train=train, download=True)
    else:
        {"mnist": MNIST, "fashion-mnist": FashionMNIST}[name](root, train=train, download=True)


def _classes(name: str) -> tuple[str, ...]:
    if name == "fashion-mnist":
        return FASHION
    if name in ("mnist", "emnist-mnist", "emnist-digits"):
        return tuple(string.digits)
    if name == "emnist-letters":
        return tuple(string.ascii_lowercase)
    return tuple(letter for letter in BY_CLASS if name == "emnist-byclass" or letter not in MERGED)


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
