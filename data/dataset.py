"""A data set: its classes, and the images and labels of its training and test parts."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpo.errors import HpoError, InputError


class DataError(HpoError):
    """Data that cannot be used. The message is one line with the file, folder or name, and the rule."""


class DataInputError(DataError, InputError):
    """A mistake in the section `[data]` of a study file. `key` is the key at fault."""

    key = "name"


class UnknownDataset(DataInputError):  # noqa: N818 - the name says what is wrong
    """No data set has the given name."""


class OwnDataError(DataInputError):
    """A user's own function cannot be called, or breaks the rules of `hpo.data.own`."""


class ChannelsError(DataInputError):
    """The means are not one for each channel, or feature, of the inputs, or no means of pixels."""

    key = "mean"


class SplitError(DataInputError):
    """A class, or the training part of a regression, has too few examples for the splits."""

    key = "mini"


@dataclass(frozen=True, eq=False)
class Labelled:
    """N inputs, `images`, with their targets, `labels`.

    Images are uint8 `(N, H, W)` or `(N, C, H, W)`, where C is 1 (grey) or 3 (RGB). Other inputs are float32:
    a table `(N, F)`, or `(N, C, ...)`. Labels are classes `(N,)` int64, or the numbers `(N,)` or `(N, K)`
    float32 of a regression. Raises DataError for other arrays.
    """

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        self._check_inputs(self.images)
        self._check_targets(self.labels, len(self.images))

    def _check_inputs(self, images: npt.NDArray[Any]) -> None:
        if images.dtype == np.float32:
            if images.ndim < 2 or 0 in images.shape:
                raise DataError(
                    f"inputs have shape {images.shape}: it has to be (N, F) or (N, C, ...), N > 0"
                )
            return
        if images.dtype != np.uint8:
            raise DataError(f"inputs are {images.dtype}: they have to be uint8, as images are, or float32")
        if images.ndim not in (3, 4) or 0 in images.shape:
            raise DataError(
                f"images have shape {images.shape}: it has to be (N, H, W) or (N, C, H, W), N > 0"
            )
        if self.channels not in (1, 3):
            raise DataError(f"images have shape {images.shape}: axis 1 has to be the 1 or 3 channels")

    def _check_targets(self, labels: npt.NDArray[Any], count: int) -> None:
        if labels.dtype == np.float32:
            if labels.ndim not in (1, 2) or len(labels) != count or 0 in labels.shape:
                rule = f"it has to be ({count},) or ({count}, K), one row for each input"
                raise DataError(f"targets have shape {labels.shape}: {rule}")
            return
        if labels.dtype != np.int64 or labels.shape != (count,):
            raise DataError(
                f"labels are {labels.dtype} of shape {labels.shape}: "
                f"they have to be int64 of shape ({count},), one for each {self.noun}"
            )
        if labels.min() < 0:
            raise DataError(f"label {labels.min()}: labels count from 0")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_images(self) -> bool:
        """Whether the inputs are images of bytes."""
        return self.images.dtype == np.uint8

    @property
    def noun(self) -> str:
        """What a message calls an input."""
        return "image" if self.is_images else "example"

    @property
    def channels(self) -> int:
        """The number of channels, or of features of a table: each has a mean and a standard deviation."""
        return 1 if self.is_images and self.images.ndim == 3 else self.images.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an input: `(C, H, W)` of an image, `(F,)` or `(C, ...)` of others."""
        return (self.channels, *self.size) if self.is_images else self.images.shape[1:]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of images in pixels."""
        return self.images.shape[-2], self.images.shape[-1]

    def image(self, row: int) -> npt.NDArray[np.uint8]:
        """Return an image as `(C, H, W)`."""
        pixels: npt.NDArray[np.uint8] = self.images[row].reshape(self.shape).astype(np.uint8, copy=False)
        return pixels

    def sha256(self) -> str:
        """Return a hex digest of shapes, inputs and targets, in this order of examples."""
        head = repr(self.images.shape)
        if not (self.is_images and self.labels.dtype == np.int64):
            head += f" {self.images.dtype}, {self.labels.dtype} {self.labels.shape}"
        digest = hashlib.sha256(head.encode())
        for array in (self.images, self.labels):
            little_endian = array.dtype.newbyteorder("<")
            digest.update(np.ascontiguousarray(array, little_endian).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class DataHashes:
    """SHA-256 digests of a data set.

    `train` and `test` are `Labelled.sha256` of the two parts. `content` covers both and the classes.
    """

    content: str
    train: str
    test: str


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """Facts about the arrays of a data set, computed when they were written.

    `mean` and `std` are those of the training part, of pixels / 255 or of numbers, one per channel or
    feature.
    """

    hashes: DataHashes
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set. Label i means `classes[i]`. None for `classes`: the targets are numbers.

    Each part is read when it is loaded. The parts are read separately, so that a study can leave the test
    part untouched until its last step. `facts` is None for a data set that is not mapped, see
    `hpo.data.arrays`.
    """

    name: str
    classes: tuple[str, ...] | None
    read_train: Callable[[], Labelled]
    read_test: Callable[[], Labelled]
    facts: ArrayFacts | None = None

    def __post_init__(self) -> None:
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            raise DataError(f"{self.name}: classes {self.classes} have to be two or more different names")

    def load_train(self) -> Labelled:
        """Read the training part. Raises DataError if it is missing or damaged."""
        return self._within_classes("train", self.read_train())

    def load_test(self) -> Labelled:
        """Read the test part, to score or to hash it. Raises DataError as `load_train` does."""
        return self._within_classes("test", self.read_test())

    def _within_classes(self, part: str, labelled: Labelled) -> Labelled:
        if self.classes is None:
            return labelled
        largest = labelled.labels.max()
        if largest >= len(self.classes):
            raise DataError(
                f"{self.name}: label {largest} in the {part} part: "
                f"{len(self.classes)} classes have labels 0 to {len(self.classes) - 1}"
            )
        return labelled
