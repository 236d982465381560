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
NUMBERS_RULE = "(train_inputs, train_targets, test_inputs, test_targets)"


def open_own(reference: str) -> Dataset:
    """Call the function that `reference` names, and return its data set.

    The function returns the five values of `RULE`, or for a regression the four of `NUMBERS_RULE`. Inputs are
    images, uint8 `(N, H, W)` or `(N, C, H, W)`, or floats `(N, F)` or `(N, C, ...)`. Labels are integers from
    0, `(N,)`, and targets of a regression floats `(N,)` or `(N, K)`. It is called here and not when a part is
    loaded, because only the function knows the classes. Raises OwnDataError if it cannot be imported, raises,
    or returns anything else.
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
    if not isinstance(returned, tuple | list) or len(returned) not in (4, 5):
        rule = f"it has to return {RULE}, or {NUMBERS_RULE} for a regression"
        raise DataError(f"{reference} returned {_describe(returned)}: {rule}")
    train_images, train_labels, test_images, test_labels, *names = returned
    kind = _labelled if names else _regression
    train = kind(f"{reference}, train part", train_images, train_labels)
    test = kind(f"{reference}, test part", test_images, test_labels)
    noun = f"{train.noun}s" if train.is_images else "inputs"
    for name, one, other in (
        (noun, train.images, test.images),
        ("targets", train.labels, test.labels),
    ):
        if one.dtype != other.dtype or one.shape[1:] != other.shape[1:]:
            raise DataError(
                f"{reference}: train {name} are {_kind(one)} and test {name} {_kind(other)}: "
                "they have to be alike"
            )
    classes = _classes(reference, names[0]) if names else None
    return Dataset(reference, classes, lambda: train, lambda: test)


def _kind(array: "np.ndarray[Any, Any]") -> str:
    return f"{array.dtype} {array.shape[1:]}" if array.ndim > 1 else str(array.dtype)


def _labelled(part: str, images: Any, labels: Any) -> Labelled:
    """Return inputs with class labels."""
    images, labels = _inputs(part, images), _array(f"{part}: labels", labels)
    if labels.dtype.kind in "iu":
        labels = labels.astype(np.int64)
    elif labels.dtype == np.float32:  # targets of a regression to `Labelled`
        labels = labels.astype(np.float64)
    try:
        return Labelled(images, labels)
    except DataError as error:
        hint = _input_hint(images, len(labels) if labels.ndim else 0) or _label_hint(images, labels)
        raise DataError(f"{part}: {error}{hint}") from error


def _regression(part: str, inputs: Any, targets: Any) -> Labelled:
    """Return inputs with the numbers that a regression predicts."""
    inputs, targets = _inputs(part, inputs), _array(f"{part}: targets", targets)
    if targets.dtype.kind != "f":
        raise DataError(
            f"{part}: targets are {targets.dtype}: they have to be floats; targets.astype('float32') "
            "converts them. For classes, return the class names as the fifth value"
        )
    targets = _finite(f"{part}: targets", targets)
    try:
        return Labelled(inputs, targets)
    except DataError as error:
        raise DataError(f"{part}: {error}{_input_hint(inputs, len(targets))}") from error


def _inputs(part: str, values: Any) -> "np.ndarray[Any, Any]":
    """Return inputs as an array. Floats are finite, and float32."""
    array = _array(f"{part}: images", values)
    return _finite(f"{part}: inputs", array) if array.dtype.kind == "f" else array


def _finite(title: str, values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return floats as float32. Raises DataError if one of them is not finite in float32."""
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32, copy=False)
    finite = np.isfinite(numbers)
    if not finite.all():
        index = np.unravel_index(int(finite.argmin()), finite.shape)
        place = ", ".join(map(str, index))
        raise DataError(f"{title}[{place}] is {values[index]}: all of them have to be finite float32 numbers")
    return numbers


def _array(title: str, values: Any) -> "np.ndarray[Any, Any]":
    """Return values as an array, contiguous in memory."""
    try:
        return np.asarray(values, order="C")
    except Exception as error:  # of numpy, or of what the user returned
        rule = "make no array, all of them must have one shape"
        raise DataError(f"{title} {rule}: {one_line(error)}") from error


def _input_hint(images: "np.ndarray[Any, Any]", count: int) -> str:
    """Return the end of a message about wrong inputs of `count` examples: how to make right ones."""
    shape, kind = images.shape, images.dtype.kind
    if images.dtype == np.float32:
        return "; inputs.reshape(-1, 1) makes a table of one feature" if images.ndim == 1 else ""
    if images.dtype != np.uint8:
        is_bytes = kind in "iu" and images.ndim > 2 and bool(((images >= 0) & (images < 256)).all())
        return f"; astype('{'uint8' if is_bytes else 'float32'}') converts them"
    if images.ndim == 4 and shape[0] == count and shape[3] in (1, 3) and shape[1] not in (1, 3):
        return "; transpose them: images.transpose(0, 3, 1, 2)"
    if images.ndim == 4 and shape[3] == count and shape[2] in (1, 3):
        return "; transpose them: images.transpose(3, 2, 0, 1)"
    if images.ndim == 2 and (side := round(shape[1] ** 0.5)) ** 2 == shape[1] > 1:
        return f"; images.reshape(-1, {side}, {side}) makes them square"
    return "; images.astype('float32') makes a table" if images.ndim == 2 else ""


def _label_hint(images: "np.ndarray[Any, Any]", labels: "np.ndarray[Any, Any]") -> str:
    """Return the end of a message about wrong labels: how to make right ones."""
    if labels.ndim == 2 and len(labels) == len(images):
        return "; labels.argmax(1) converts one-hot labels" if labels.shape[1] > 1 else "; use labels[:, 0]"
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        return "; some are NaN or infinite"
    if labels.dtype.kind in "fb" and np.array_equal(labels, labels.astype(np.int64)):
        return "; labels.astype(int) converts them"
    return "; for a regression, return no class names" if labels.dtype.kind == "f" else ""


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
