"""A user's own data set: the return value of a function, named as "package.module:function"."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hpo.data.dataset import DataError, Dataset, Labelled, OwnDataError

REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
RULE = "(train_images, train_labels, test_images, test_labels, class_names)"


def open_own(reference: str) -> Dataset:
    """Call the function that `reference` names, and return its data set.

    The function returns the five values of `RULE`. Images are uint8 `(N, H, W)` or `(N, C, H, W)`, labels
    integers from 0, `(N,)`. It is called here and not when a part is loaded, because only the function knows
    the classes. Raises OwnDataError if it cannot be imported, raises, or returns anything else.
    """
    try:
        dataset = _open(reference)
        dataset.load_train()  # both parts are here already, so their labels are checked at once
        dataset.load_test()
    except DataError as error:
        raise OwnDataError(str(error)) from error
    return dataset


def _open(reference: str) -> Dataset:
    function = _import(reference)
    try:
        returned = function()
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{reference} raised {type(error).__name__}: {reason}") from error
    if not isinstance(returned, tuple) or len(returned) != 5:
        raise DataError(f"{reference} returned {_describe(returned)}: it has to return {RULE}")
    train_images, train_labels, test_images, test_labels, classes = returned
    train = _labelled(reference, "train", train_images, train_labels)
    test = _labelled(reference, "test", test_images, test_labels)
    if (train.channels, train.size) != (test.channels, test.size):
        raise DataError(
            f"{reference}: train images are {train.images.shape[1:]} and test images "
            f"{test.images.shape[1:]}: they have to be alike"
        )
    return Dataset(reference, tuple(map(str, classes)), lambda: train, lambda: test)


def _import(reference: str) -> Callable[[], Any]:
    module, _, name = reference.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that a file there does not hide an installed package
    try:
        function = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise DataError(f"{reference}: {error}; {module} has to be installed or in {folder}") from error
    except Exception as error:  # the import runs the user's code, which may raise anything
        reason = " ".join(str(error).split())
        raise DataError(f"{reference}: importing {module} raised {type(error).__name__}: {reason}") from error
    if not callable(function):
        raise DataError(f"{reference}: {module} has no function {name}")
    return function  # type: ignore[no-any-return]


def _labelled(reference: str, part: str, images: Any, labels: Any) -> Labelled:
    images, labels = np.ascontiguousarray(images), np.asarray(labels)
    if labels.dtype.kind in "iu":
        labels = labels.astype(np.int64)
    try:
        return Labelled(images, labels)
    except DataError as error:
        raise DataError(f"{reference}, {part} part: {error}") from error


def _describe(returned: Any) -> str:
    return f"{len(returned)} things" if isinstance(returned, tuple) else f"a {type(returned).__name__}"
