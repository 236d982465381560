"""scikit-learn's digits in MNIST's layout: 1,797 scans of 8x8 pixels (E. Alpaydin and C. Kaynak, UCI).

They are part of scikit-learn and need neither a download nor a folder.
"""

import string
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.Image import Resampling
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from hpo.data.dataset import Dataset, Labelled
from hpo.data.signature import file_signature

SIDE, MARGIN = 20, 4  # MNIST centres its digits, 20 pixels high, in 28x28


def open_digits() -> Dataset:
    return Dataset("digits", tuple(string.digits), partial(_read, train=True), partial(_read, train=False))


def digits_signature() -> str | None:
    """Return the signature of the packages that hold, split and resize the scans."""
    return file_signature(
        [Path(__file__)], *(f"{name} {version(name)}" for name in ("scikit-learn", "pillow"))
    )


def _read(train: bool) -> Labelled:
    scans = load_digits()
    # The seed is fixed: another split into training and test part would be another data set.
    parts = train_test_split(
        np.arange(len(scans.target)), test_size=0.2, stratify=scans.target, random_state=0
    )
    index = np.sort(parts[0] if train else parts[1])
    grey = (scans.images[index] * (255 / 16)).round().astype(np.uint8)  # (N, 8, 8), from 0..16
    # Pillow resizes bytes in integer arithmetic, so the pixels are the same on every machine.
    resized = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Resampling.BILINEAR)) for image in grey]
    images = np.pad(np.stack(resized), ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))  # (N, 28, 28)
    return Labelled(images, scans.target[index].astype(np.int64))
