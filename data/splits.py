"""The paper's splits of a training set: train / mini, and mini into mini-train / mini-validation."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from hpo.data.dataset import DataError

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fractions:
    """`mini`: share of the training set that is set aside for the search. `validation`: share of mini.

    The defaults are the paper's. Raises DataError outside (0, 0.5].
    """

    mini: float = 0.1
    validation: float = 0.2

    def __post_init__(self) -> None:
        for name, value in (("mini", self.mini), ("validation", self.validation)):
            if not 0 < value <= 0.5:
                raise DataError(f"{name} = {value}: a fraction has to be above 0 and at most 0.5")

    @property
    def fewest(self) -> int:
        """Images a class needs so that each part is sure to get one."""
        return math.ceil(math.ceil(1 / self.validation) / self.mini)


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Positions in the training set: disjoint, ascending, together all of it."""

    train: Index
    mini_train: Index
    mini_validation: Index

    @property
    def mini(self) -> Index:
        """Both mini parts, ascending: what the full training validates on."""
        return np.sort(np.concatenate((self.mini_train, self.mini_validation)))


def split(labels: Index, fractions: Fractions, seed: int) -> Splits:
    """Split a training set with `labels` `(N,)`, stratified by label. The same seed gives the same split.

    A part's share of each class is that of the whole to within one image. Raises DataError when a class is
    too small for each part to get one.
    """
    classes, counts = np.unique(labels, return_counts=True)
    smallest = counts.argmin()
    if counts[smallest] < fractions.fewest:
        raise DataError(
            f"class {classes[smallest]} has {counts[smallest]} images: with mini = {fractions.mini} and "
            f"validation = {fractions.validation} each class needs {fractions.fewest}, one for every part"
        )
    train, mini = _cut(np.arange(len(labels)), labels, fractions.mini, seed)
    mini_train, mini_validation = _cut(mini, labels, fractions.validation, seed)
    return Splits(train, mini_train, mini_validation)


def _cut(index: Index, labels: Index, fraction: float, seed: int) -> tuple[Index, Index]:
    rest, part = train_test_split(index, test_size=fraction, stratify=labels[index], random_state=seed)
    return np.sort(rest), np.sort(part)
