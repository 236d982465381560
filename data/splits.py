"""The paper's splits of a training set: into train and mini, and mini into mini-train and mini-validation."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from hpo.data.dataset import DataError, SplitError

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fractions:
    """Shares of the splits, both in (0, 0.5]. The defaults are the paper's.

    `mini` is the share of the training set that the search uses, `validation` the share of mini that the
    search validates on. Raises DataError outside the range.
    """

    mini: float = 0.1
    validation: float = 0.2

    def __post_init__(self) -> None:
        for name, value in (("mini", self.mini), ("validation", self.validation)):
            if not 0 < value <= 0.5:
                raise DataError(f"{name} = {value}: a fraction has to be above 0 and at most 0.5")

    @property
    def fewest(self) -> int:
        """The least number of images of a class with which each part gets one."""
        return math.ceil(math.ceil(1 / self.validation) / self.mini)


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Disjoint, ascending indices of the training set, which together cover it."""

    train: Index
    mini_train: Index
    mini_validation: Index

    @property
    def mini(self) -> Index:
        """Both mini parts, ascending. Full training validates on them."""
        return np.sort(np.concatenate((self.mini_train, self.mini_validation)))


def split(labels: Index, fractions: Fractions, seed: int) -> Splits:
    """Split a training set with `labels` `(N,)`, stratified by label. The same seed gives the same split.

    Each part has its share of every class, to within one image. Raises SplitError if a class has too few
    images for every part to get one.
    """
    classes, counts = np.unique(labels, return_counts=True)
    smallest = counts.argmin()
    if counts[smallest] < fractions.fewest:
        raise SplitError(
            f"class {classes[smallest]} has {counts[smallest]} images: with mini = {fractions.mini} and "
            f"validation = {fractions.validation} each class needs {fractions.fewest}, one for every part; "
            "raise mini or add images"
        )
    train, mini = _split_off(np.arange(len(labels)), labels, fractions.mini, seed)
    mini_train, mini_validation = _split_off(mini, labels, fractions.validation, seed)
    return Splits(train, mini_train, mini_validation)


def _split_off(index: Index, labels: Index, fraction: float, seed: int) -> tuple[Index, Index]:
    rest, part = train_test_split(index, test_size=fraction, stratify=labels[index], random_state=seed)
    return np.sort(rest), np.sort(part)
