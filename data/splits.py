"""The splits of a training part, as in the paper: into train and mini, and mini into its own two parts."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from hpo.data.dataset import DataError, Labelled, SplitError

Index = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]
"""Class labels, int64."""

LARGEST = 0.5
"""The largest fraction."""


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
            if not 0 < value <= LARGEST:
                raise DataError(f"{name} = {value}: a fraction has to be above 0 and at most {LARGEST}")

    @property
    def fewest(self) -> int:
        """The least number of images of a class with which each part gets one."""
        return math.ceil(math.ceil(1 / self.validation) / self.mini)

    def way_out(self, count: int, noun: str = "image") -> str:
        """Return what gives every part an example of a class of `count` examples. `noun`: its name."""
        shares = (percent / 100 for percent in range(1, int(100 * LARGEST) + 1))
        mini = next((mini for mini in shares if Fractions(mini, self.validation).fewest <= count), None)
        if mini is None:
            return f"set mini and validation to {LARGEST}, or add {noun}s"
        return f"set mini to {mini:g} or more, or add {noun}s"


FEWEST = Fractions(LARGEST, LARGEST).fewest
"""The least number of images of a class that some fractions can split."""


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

    @property
    def all(self) -> Index:
        """All parts, ascending. A refit trains on them."""
        return np.sort(np.concatenate((self.train, self.mini)))


def split_of(labelled: Labelled, fractions: Fractions, seed: int) -> Splits:
    """Split a training part: stratified by label, or at random if the targets are numbers.

    Raises SplitError as `split` and `split_at_random` do.
    """
    if labelled.labels.dtype == np.int64:
        return split(labelled.labels, fractions, seed, labelled.noun)
    return split_at_random(len(labelled), fractions, seed)


def split_at_random(count: int, fractions: Fractions, seed: int) -> Splits:
    """Split `count` examples at random. The same seed gives the same split.

    Raises SplitError if a part would have a single example, whose targets have no variance.
    """
    if count < 2 * fractions.fewest:
        raise SplitError(
            f"the training part has {count} examples: with mini = {fractions.mini} and "
            f"validation = {fractions.validation} it needs {2 * fractions.fewest}; "
            f"{fractions.way_out(count // 2, 'example')}"
        )
    train, mini = _split_off(np.arange(count), None, fractions.mini, seed)
    return Splits(train, *_split_off(mini, None, fractions.validation, seed))


def split(labels: Labels, fractions: Fractions, seed: int, noun: str = "image") -> Splits:
    """Split a training set with `labels` `(N,)`, stratified by label. The same seed gives the same split.

    `noun`: what a message calls an example. Each part has its share of every class, to within one image. The
    `tiny_classes` are in `train` alone. Raises SplitError if another class has too few images for every part
    to get one.
    """
    is_tiny = np.isin(labels, tiny_classes(labels))
    index = np.flatnonzero(~is_tiny)
    if not len(index):
        raise SplitError(f"no class has {FEWEST} {noun}s, the least that can be split")
    classes, counts = np.unique(labels[index], return_counts=True)
    smallest = counts.argmin()
    if counts[smallest] < fractions.fewest:
        raise SplitError(
            f"class {classes[smallest]} has {counts[smallest]} {noun}s: with mini = {fractions.mini} and "
            f"validation = {fractions.validation} each class needs {fractions.fewest}, one for every part; "
            f"{fractions.way_out(int(counts[smallest]), noun)}"
        )
    train, mini = _split_off(index, labels, fractions.mini, seed)
    mini_train, mini_validation = _split_off(mini, labels, fractions.validation, seed)
    return Splits(np.sort(np.concatenate((train, np.flatnonzero(is_tiny)))), mini_train, mini_validation)


def hold_out(labels: Labels, share: float, seed: int) -> tuple[Index, Index]:
    """Return ascending indices of the rest, and of a share of each class, at least one example of it.

    A class with a single example stays in the rest. Raises SplitError if no class has two.
    """
    generator = np.random.default_rng(seed)
    held = []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        held.append(rows[: max(1, round(share * len(rows))) if len(rows) > 1 else 0])
    index = np.sort(np.concatenate(held))
    if not len(index):
        raise SplitError("no class has 2 examples, the least that can be split")
    return np.setdiff1d(np.arange(len(labels)), index), index


def tiny_classes(labels: Labels) -> Index:
    """Return the classes that have images, but too few for any fractions."""
    classes, counts = np.unique(labels, return_counts=True)
    tiny: Index = classes[counts < FEWEST]
    return tiny


def _split_off(index: Index, labels: Labels | None, fraction: float, seed: int) -> tuple[Index, Index]:
    strata = None if labels is None else labels[index]
    rest, part = train_test_split(index, test_size=fraction, stratify=strata, random_state=seed)
    return np.sort(rest), np.sort(part)
