"""Ceilings of the accuracy: what a perfect classifier reaches that cannot tell certain classes apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpo.export.analysis.look_alikes import ZERO, Sets, one_shape_pairs, present

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The accuracy without knowing `unknown`. `sets`: the names of the classes that count as alike."""

    unknown: str
    sets: tuple[tuple[str, ...], ...]
    accuracy: float


def ceiling(counts: Counts, sets: Sets) -> float:
    """Return the accuracy of a classifier that answers the most frequent class of each set.

    `counts`: examples of each class, `(classes,)`, not all 0. The sets are disjoint. All classes outside the
    sets are told apart without error.
    """
    lost = sum(int(counts[list(alike)].sum() - counts[list(alike)].max()) for alike in sets)
    return 1 - lost / int(counts.sum())


def ceilings_of(classes: Sequence[str], counts: Counts) -> tuple[Ceiling, ...]:
    """Return the ceilings that these classes have, from the highest down to the lowest."""
    pairs = one_shape_pairs(classes)
    found: dict[Sets, Ceiling] = {}
    for alike in ((), (ZERO, "1Il"), (ZERO, "1IiLl")):
        sets = tuple(filter(None, (present(classes, letters) for letters in alike)))
        taken = {index for members in sets for index in members}
        free = tuple(pair for pair in pairs if taken.isdisjoint(pair))
        if free + sets and free + sets not in found:
            names = ["/".join(classes[index] for index in members) for members in sets]
            case = ["letter case"] if pairs else []
            found[free + sets] = Ceiling(
                " or ".join([*case, *names]),
                tuple(tuple(classes[index] for index in members) for members in free + sets),
                ceiling(counts, free + sets),
            )
    return tuple(found.values())
