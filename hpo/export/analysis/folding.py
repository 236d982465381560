"""Classes that are folded into fewer, such as the two cases of a letter into one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpo.data.mnist import BY_CLASS, MERGED


@dataclass(frozen=True, slots=True)
class Folding:
    """A map of each class to a folded class, by index. `targets`: class i becomes `names[targets[i]]`."""

    title: str
    names: tuple[str, ...]
    targets: tuple[int, ...]

    @classmethod
    def by_name(cls, title: str, classes: Sequence[str], mapping: Mapping[str, str]) -> "Folding":
        """Return the folding of `classes` by a map of names. A class that is not in the map stays."""
        folded = [mapping.get(name, name) for name in classes]
        names = tuple(dict.fromkeys(folded))  # in the order of their first class
        return cls(title, names, tuple(map(names.index, folded)))

    def of(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the folded class of each class."""
        targets: npt.NDArray[np.int64] = np.array(self.targets, dtype=np.int64)
        return targets[indices]

    def most_probable(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Return the folded class `(N,)` with the highest sum of probabilities `(N, classes)`."""
        membership = np.zeros((len(self.targets), len(self.names)), dtype=np.float32)
        membership[np.arange(len(self.targets)), self.targets] = 1
        sums: npt.NDArray[np.float32] = probabilities @ membership
        folded: npt.NDArray[np.int64] = sums.argmax(axis=1)
        return folded


def folding_of(classes: Sequence[str]) -> Folding | None:
    """Return the folding of EMNIST ByClass to the 47 classes of ByMerge, None for any other classes."""
    if sorted(classes) != sorted(BY_CLASS):
        return None
    mapping = {letter: letter.upper() for letter in MERGED}
    return Folding.by_name("the 47 classes of EMNIST ByMerge", classes, mapping)
