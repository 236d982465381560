"""The inputs of any data set, brought to the form that a network takes."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from hpo.data.dataset import DataInputError, Dataset, Labelled
from hpo.export.images import fitted
from hpo.export.model_spec import ModelSpec


def fit_dataset(dataset: Dataset, spec: ModelSpec) -> Dataset:
    """Return a data set whose parts are brought to the form of the network when they are loaded."""
    return Dataset(
        dataset.name,
        dataset.classes,
        lambda: fit(dataset.load_train(), spec, dataset.name),
        lambda: fit(dataset.load_test(), spec, dataset.name),
    )


def fit(labelled: Labelled, spec: ModelSpec, name: str) -> Labelled:
    """Return the inputs of the data set `name` in the form that the network of `spec` takes.

    Images are treated as `read_image` treats a file, but are not inverted: grey becomes RGB by repetition,
    RGB becomes grey by its luminance, and another size is scaled without distortion and padded with black.
    Raises `DataInputError` if the network takes numbers of another shape, or one of both has no images.
    """
    takes_images = spec.image_size is not None
    if labelled.shape == spec.input and labelled.is_images == takes_images:
        return labelled
    if not (labelled.is_images and takes_images):
        given = _described(labelled.shape, labelled.is_images)
        raise DataInputError(
            f"{name} has {given}, and the model takes {_described(spec.input, takes_images)}"
        )
    return Labelled(_fitted(labelled.images, spec), labelled.labels)


def _fitted(images: npt.NDArray[Any], spec: ModelSpec) -> npt.NDArray[np.uint8]:
    fits = np.empty((len(images), *spec.input), np.uint8)  # (N, C, H, W)
    for row, image in zip(fits, images, strict=True):
        pixels = image[0] if image.ndim == 3 and len(image) == 1 else image
        rows = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
        row[:] = fitted(Image.fromarray(rows), spec)
    return fits


def _described(shape: tuple[int, ...], is_images: bool) -> str:
    return f"images of shape {shape}" if is_images else f"numbers of shape {shape}"
