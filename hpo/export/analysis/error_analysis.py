"""The analysis of a classifier's errors, as a value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import to_jsonable_python

from hpo.export.analysis.calibration import Calibration, calibration
from hpo.export.analysis.ceilings import Ceiling, ceiling, ceilings_of
from hpo.export.analysis.folding import folding_of
from hpo.export.analysis.interval import Rate
from hpo.export.analysis.look_alikes import case_pairs, groups_of
from hpo.export.analysis.pairs import ConfusedPair, most_confused, pair_of
from hpo.export.analysis.predictions import Predictions

TOP_PAIRS = 50
"""The most confused pairs that an analysis lists."""

OTHERS = "all others"


@dataclass(frozen=True, slots=True)
class GroupErrors:
    """The errors that one reason explains. Each error is in exactly one group: the shares add up to 1.

    errors        number of errors
    share         of all errors
    forgiven      accuracy if these errors, and those of the groups before this one, counted as correct
    ceiling       accuracy of a perfect classifier that cannot tell these classes apart; None for `OTHERS`
    """

    title: str
    errors: int
    share: float
    forgiven: float
    ceiling: float | None


@dataclass(frozen=True, slots=True)
class FoldedAccuracy:
    """The accuracy of the same predictions on fewer classes.

    of_sums          the prediction is the folded class whose classes have the highest sum of probabilities
    of_predictions   the prediction is the folded class of the most probable class
    """

    title: str
    classes: int
    of_sums: Rate
    of_predictions: Rate


@dataclass(frozen=True, slots=True)
class ErrorAnalysis:
    """Where the errors are, over `n` examples. Without errors, all shares are 0.

    pairs        the most confused pairs, most errors first, at most `TOP_PAIRS`
    case_pairs   all letters that have a class in each case, most errors first
    groups       reasons for errors that follow from the names of the classes; the last is `OTHERS`
    ceilings     what a perfect classifier without certain knowledge reaches on these examples
    folded       None if the classes have no folding
    """

    n: int
    accuracy: float
    errors: int
    pairs: tuple[ConfusedPair, ...]
    case_pairs: tuple[ConfusedPair, ...]
    groups: tuple[GroupErrors, ...]
    ceilings: tuple[Ceiling, ...]
    calibration: Calibration
    folded: FoldedAccuracy | None

    def to_json(self) -> dict[str, Any]:
        """Return the analysis as plain values, as `json.loads` would."""
        plain: dict[str, Any] = to_jsonable_python(self)
        return plain


def analyse(predictions: Predictions, classes: Sequence[str]) -> ErrorAnalysis:
    """Return where the errors of at least one prediction are. Class i is `classes[i]`."""
    confusion = predictions.confusion(len(classes))
    n, correct = len(predictions), int(confusion.trace())
    cases = [pair_of(confusion, classes, *pair) for pair in case_pairs(classes)]
    return ErrorAnalysis(
        n=n,
        accuracy=correct / n,
        errors=n - correct,
        pairs=most_confused(confusion, classes, TOP_PAIRS),
        case_pairs=tuple(sorted(cases, key=lambda pair: -pair.errors)),
        groups=_groups(confusion, classes),
        ceilings=ceilings_of(classes, confusion.sum(axis=1)),
        calibration=calibration(predictions),
        folded=_folded(predictions, classes),
    )


def _groups(confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> tuple[GroupErrors, ...]:
    counts = confusion.sum(axis=1)
    n, correct = int(confusion.sum()), int(confusion.trace())
    left = confusion.copy()  # the errors that no group so far explains
    np.fill_diagonal(left, 0)
    rows, forgiven = [], correct

    def add(title: str, errors: int, limit: float | None) -> None:
        nonlocal forgiven
        forgiven += errors
        rows.append(GroupErrors(title, errors, errors / max(1, n - correct), forgiven / n, limit))

    for group in groups_of(classes):
        errors = 0
        for alike in group.sets:
            block = np.ix_(alike, alike)
            errors += int(left[block].sum())
            left[block] = 0
        add(group.title, errors, ceiling(counts, group.sets))
    add(OTHERS, int(left.sum()), None)
    return tuple(rows)


def _folded(predictions: Predictions, classes: Sequence[str]) -> FoldedAccuracy | None:
    folding = folding_of(classes)
    if folding is None or predictions.folded is None:
        return None
    labels = folding.of(predictions.labels)

    def rate(predicted: npt.NDArray[np.int64]) -> Rate:
        return Rate.of(int((predicted == labels).sum()), len(labels))

    of_predictions = rate(folding.of(predictions.predicted))
    return FoldedAccuracy(folding.title, len(folding.names), rate(predictions.folded), of_predictions)
