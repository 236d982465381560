"""Statistics of a data set: images per class, mean and standard deviation of its pixels."""

import math
from dataclasses import dataclass

import numpy as np

from hpo.data.dataset import Labelled

BLOCK = 1024  # images per call: bincount converts its input to eight bytes per pixel


@dataclass(frozen=True, slots=True)
class Statistics:
    """Images per class name, in the order of the classes; mean and std of pixels / 255, one per channel."""

    counts: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def statistics(labelled: Labelled, classes: tuple[str, ...]) -> Statistics:
    """Compute the statistics exactly, from counts of the 256 byte values. `std` is that of the population."""
    counts = np.bincount(labelled.labels, minlength=len(classes))
    pixels = labelled.images.reshape(len(labelled), labelled.channels, -1)  # (N, C, H * W)
    mean, std = zip(*(_moments(pixels[:, channel]) for channel in range(labelled.channels)), strict=True)
    return Statistics(dict(zip(classes, counts.tolist(), strict=True)), mean, std)


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
