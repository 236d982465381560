"""Labelled examples of any data set, in the form that an exported model takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from hpo.data import Dataset, Labelled
from hpo.errors import InputError
from hpo.export.images import fitted
from hpo.export.model_spec import ModelSpec
from hpo.export.scoring import BATCH

CHUNK = 16 * BATCH
"""Examples that are in memory at once. A multiple of the batch, so that chunks change no batch."""

SHOWN = 5
"""The most class names in a message."""


@dataclass(frozen=True, eq=False)
class Examples:
    """The examples of one part of a data set or of several, for the model of `spec`.

    `indices`: the class of the model for each class of the data set, None of a regression. Raises
    `InputError` if the model takes other inputs or predicts other targets.
    """

    spec: ModelSpec
    name: str
    parts: Sequence[Labelled]
    indices: npt.NDArray[np.int64] | None

    @classmethod
    def of(cls, spec: ModelSpec, dataset: Dataset, part: str) -> "Examples":
        """Return the examples of a part: `train`, `test`, or `all` for both.

        Raises DataError if the part is missing or damaged, and `InputError` if it does not fit the model.
        """
        indices = matching_indices(spec, dataset)
        parts = [dataset.load_train()] if part != "test" else []
        parts += [dataset.load_test()] if part != "train" else []
        return cls(spec, dataset.name, parts, indices)

    def __post_init__(self) -> None:
        for part in self.parts:
            self._check(part)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def are_images(self) -> bool:
        """Whether the inputs are images."""
        return self.spec.image_size is not None

    @property
    def are_scaled(self) -> bool:
        """Whether the images have another size or other channels than those that the model takes."""
        return self.are_images and any(part.shape != self.spec.input for part in self.parts)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs `(N, ...)` and targets `(N,)` or `(N, K)`, at most `CHUNK` at once."""
        for part in self.parts:
            for start in range(0, len(part), CHUNK):
                rows = slice(start, start + CHUNK)
                targets = part.labels[rows]
                if self.indices is not None:
                    targets = self.indices[targets]
                yield self._inputs(part, rows), torch.from_numpy(targets)

    def image_of(self, row: int) -> npt.NDArray[np.uint8]:
        """Return the image `(C, H, W)` of an example, as it is in the data set."""
        for part in self.parts:
            if row < len(part):
                return part.image(row)
            row -= len(part)
        raise IndexError(row)

    def _inputs(self, part: Labelled, rows: slice) -> Tensor:
        inputs = part.images[rows]
        if part.shape == self.spec.input:
            return torch.from_numpy(inputs).view(-1, *part.shape)  # (N, C, ...)
        images = [_fitted(pixels.reshape(part.shape), self.spec) for pixels in inputs]
        return torch.from_numpy(np.stack(images))  # (N, C, H, W)

    def _check(self, part: Labelled) -> None:
        spec = self.spec
        if part.is_images != self.are_images:
            takes, has = ("images", "numbers") if self.are_images else ("numbers", "images")
            raise InputError(f"{self.name}: has {has}, and the model takes {takes}")
        if not self.are_images and part.shape != spec.input:
            raise InputError(f"{self.name}: inputs have shape {part.shape}, and the model takes {spec.input}")
        if spec.target_shape is not None and part.labels.shape[1:] != spec.target_shape:
            shape = part.labels.shape[1:]
            raise InputError(
                f"{self.name}: targets have shape {shape}, and the model predicts {spec.target_shape}"
            )


def matching_indices(spec: ModelSpec, dataset: Dataset) -> npt.NDArray[np.int64] | None:
    """Return the class of the model for each class of a data set, matched by name; None of a regression.

    Raises `InputError` if the model lacks a class of the data set, or only one of both has classes.
    """
    if (dataset.classes is None) != (not spec.classes):
        has, predicts = ("numbers", "classes") if spec.classes else ("classes", "numbers")
        raise InputError(f"{dataset.name}: has {has}, and the model predicts {predicts}")
    if dataset.classes is None:
        return None
    known: Mapping[str, int] = {name: index for index, name in enumerate(spec.classes)}
    unknown = [name for name in dataset.classes if name not in known]
    if unknown:
        raise InputError(
            f"{dataset.name}: has {len(unknown)} of {len(dataset.classes)} classes that the model lacks: "
            f"{_listed(unknown)}; the model knows {_listed(spec.classes)}"
        )
    return np.array([known[name] for name in dataset.classes])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def _fitted(pixels: npt.NDArray[np.uint8], spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Return an image `(C, H, W)` in the form that the model takes."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    return fitted(image, spec).reshape(spec.input)
