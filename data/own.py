"""A user's own data set: the return value of a function, named as "package.module:function"."""

from collections.abc import Iterable
from typing import Any
from unicodedata import category

import numpy as np

from hpo.data.dataset import DataError, Dataset, Labelled, OwnDataError
from hpo.errors import one_line
from hpo.user_code import import_own, user_code

NO_TEXT = ("Cc", "Cs")
"""Unicode's categories of control characters, and of surrogates, which no file can hold."""

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
    except OwnDataError:
        raise
    except DataError as error:
        raise OwnDataError(str(error)) from error
    return dataset


def _open(reference: str) -> Dataset:
    module, _, name = reference.partition(":")
    function = import_own(reference, OwnDataError)
    if not callable(function):
        raise DataError(f"{reference}: {module} has no function {name}")
    with user_code(reference, OwnDataError, module):
        returned = function()
    if not isinstance(returned, tuple | list) or len(returned) != 5:
        raise DataError(f"{reference} returned {_describe(returned)}: it has to return {RULE}")
    train_images, train_labels, test_images, test_labels, classes = returned
    train = _labelled(f"{reference}, train part", train_images, train_labels)
    test = _labelled(f"{reference}, test part", test_images, test_labels)
    if (train.channels, train.size) != (test.channels, test.size):
        raise DataError(
            f"{reference}: train images are {train.images.shape[1:]} and test images "
            f"{test.images.shape[1:]}: they have to be alike"
        )
    return Dataset(reference, _classes(reference, classes), lambda: train, lambda: test)


def _labelled(part: str, images: Any, labels: Any) -> Labelled:
    images, labels = _array(f"{part}: images", images), _array(f"{part}: labels", labels)
    if labels.dtype.kind in "iu":
        labels = labels.astype(np.int64)
    try:
        return Labelled(images, labels)
    except DataError as error:
        raise DataError(f"{part}: {error}{_way_out(images, labels)}") from error


def _array(title: str, values: Any) -> "np.ndarray[Any, Any]":
    """Return values as an array, contiguous in memory."""
    try:
        return np.asarray(values, order="C")
    except Exception as error:  # of numpy, or of what the user returned
        rule = "make no array, all of them must have one shape"
        raise DataError(f"{title} {rule}: {one_line(error)}") from error


def _way_out(images: "np.ndarray[Any, Any]", labels: "np.ndarray[Any, Any]") -> str:
    """Return the end of a message about wrong arrays: how to make right ones."""
    shape, n = images.shape, len(labels) if labels.ndim else 0
    if images.dtype != np.uint8:
        is_share = images.dtype.kind == "f" and bool((images <= 1).all())
        return f"; {'(images * 255)' if is_share else 'images'}.astype('uint8') converts them"
    if images.ndim == 4 and shape[0] == n and shape[3] in (1, 3) and shape[1] not in (1, 3):
        return "; transpose them: images.transpose(0, 3, 1, 2)"
    if images.ndim == 4 and shape[3] == n and shape[2] in (1, 3):
        return "; transpose them: images.transpose(3, 2, 0, 1)"
    if images.ndim == 2 and (side := round(shape[1] ** 0.5)) ** 2 == shape[1] > 1:
        return f"; images.reshape(-1, {side}, {side}) makes them square"
    if labels.ndim == 2 and len(labels) == len(images):
        return "; labels.argmax(1) converts one-hot labels" if labels.shape[1] > 1 else "; use labels[:, 0]"
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        return "; some are NaN or infinite"
    if labels.dtype.kind in "fb" and np.array_equal(labels, labels.astype(np.int64)):
        return "; labels.astype(int) converts them"
    return ""


def _classes(reference: str, classes: Any) -> tuple[str, ...]:
    """Return the class names. Whole numbers become text."""
    names = list(classes) if isinstance(classes, Iterable) else None
    if names is None or not all(isinstance(name, str | int | np.integer) for name in names):
        raise DataError(f"{reference}: class names are {classes!r}: they have to be a list of texts")
    for name in map(str, names):
        if not name or any(category(letter) in NO_TEXT for letter in name):
            rule = "it has to be text that is not empty, without control characters"
            raise DataError(f"{reference}: class name {name!r}: {rule}")
    return tuple(map(str, names))


def _describe(returned: Any) -> str:
    return f"{len(returned)} things" if isinstance(returned, tuple | list) else f"a {type(returned).__name__}"
