"""A data set: its classes, and the images and labels of its training and test parts."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

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
    """The means are not one for each channel of the images."""

    key = "mean"


class SplitError(DataInputError):
    """A class has too few images for the splits."""

    key = "mini"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images `(N, H, W)` or `(N, C, H, W)` uint8 with labels `(N,)` int64. C is 1 (grey) or 3 (RGB).

    Raises DataError for other arrays.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8:
            raise DataError(f"images are {images.dtype}: they have to be uint8, 0 to 255")
        if images.ndim not in (3, 4) or 0 in images.shape:
            raise DataError(
                f"images have shape {images.shape}: it has to be (N, H, W) or (N, C, H, W), N > 0"
            )
        if self.channels not in (1, 3):
            raise DataError(f"images have shape {images.shape}: axis 1 has to be the 1 or 3 channels")
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise DataError(
                f"labels are {labels.dtype} of shape {labels.shape}: "
                f"they have to be int64 of shape ({len(images)},), one for each image"
            )
        if labels.min() < 0:
            raise DataError(f"label {labels.min()}: labels count from 0")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        return 1 if self.images.ndim == 3 else self.images.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[-2], self.images.shape[-1]

    def sha256(self) -> str:
        """Return a hex digest of shape, pixels and labels, in this order of images."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).reshape(-1).data)
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
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

    `mean` and `std` are those of the training pixels / 255, one per channel.
    """

    hashes: DataHashes
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set. Label i means `classes[i]`.

    Each part is read when it is loaded. The parts are read separately, so that a study can leave the test
    part untouched until its last step. `facts` is None for a data set that is not mapped, see
    `hpo.data.arrays`.
    """

    name: str
    classes: tuple[str, ...]
    read_train: Callable[[], Labelled]
    read_test: Callable[[], Labelled]
    facts: ArrayFacts | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise DataError(f"{self.name}: classes {self.classes} have to be two or more different names")

    def load_train(self) -> Labelled:
        """Read the training part. Raises DataError if it is missing or damaged."""
        return self._within_classes("train", self.read_train())

    def load_test(self) -> Labelled:
        """Read the test part, to score or to hash it. Raises DataError as `load_train` does."""
        return self._within_classes("test", self.read_test())

    def _within_classes(self, part: str, labelled: Labelled) -> Labelled:
        largest = labelled.labels.max()
        if largest >= len(self.classes):
            raise DataError(
                f"{self.name}: label {largest} in the {part} part: "
                f"{len(self.classes)} classes have labels 0 to {len(self.classes) - 1}"
            )
        return labelled
