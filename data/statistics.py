"""Statistics of a data set: examples per class, mean and standard deviation of its inputs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpo.data.dataset import Labelled

BLOCK = 1024  # inputs per call: the computation converts its input to eight bytes per number

LEAST_STD = float(np.finfo(np.float32).tiny)
"""A smaller standard deviation is 0 in float32, the precision of training."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Examples per class name, in the order of the classes; empty for a regression.

    `mean` and `std` have one number per channel, or per feature of a table. Those of images are of pixels /
    255.
    """

    counts: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def statistics(labelled: Labelled, classes: tuple[str, ...] | None) -> Statistics:
    """Compute the statistics. `std` is that of the population, and 0 for a constant channel.

    Those of images are exact: they follow from counts of the 256 byte values.
    """
    counts: dict[str, int] = {}
    if classes is not None:
        numbers = np.bincount(labelled.labels.astype(np.int64), minlength=len(classes))
        counts = dict(zip(classes, numbers.tolist(), strict=True))
    values: npt.NDArray[Any] = labelled.images.reshape(len(labelled), labelled.channels, -1)  # (N, C, L)
    if not labelled.is_images:
        return Statistics(counts, *_float_moments(values))
    mean, std = zip(*(_moments(values[:, channel]) for channel in range(labelled.channels)), strict=True)
    return Statistics(counts, mean, std)


def _float_moments(values: npt.NDArray[np.float32]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return means and standard deviations of the channels of `values` `(N, C, L)`, computed in float64."""
    count = len(values) * values.shape[2]
    mean = sum(block.sum(axis=(0, 2)) for block in _blocks(values)) / count  # (C,)
    squares = sum(np.square(block - mean[:, None]).sum(axis=(0, 2)) for block in _blocks(values))
    std = np.sqrt(squares / count)
    # The mean of equal numbers may differ from them in the last digit.
    constant = values.min(axis=(0, 2)) == values.max(axis=(0, 2))
    std = np.where(constant | (std < LEAST_STD), 0.0, std)
    return tuple(mean.tolist()), tuple(std.tolist())


def _blocks(values: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float64]]:
    return (values[start : start + BLOCK].astype(np.float64) for start in range(0, len(values), BLOCK))


def _moments(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> tuple[float, float]:
    histogram = np.zeros(256, dtype=np.int64)
    for start in range(0, len(pixels), BLOCK):
        histogram += np.bincount(pixels[start : start + BLOCK].reshape(-1), minlength=256)
    # Python integers, because the sum of squares must neither round nor overflow before the subtraction.
    counts = list(enumerate(histogram.tolist()))
    n = sum(count for _, count in counts)
    total = sum(value * count for value, count in counts)
    squares = sum(value**2 * count for value, count in counts)
    return total / n / 255, math.sqrt(squares * n - total**2) / n / 255
