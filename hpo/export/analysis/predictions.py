"""What a classifier says of labelled examples, in a size that does not depend on the number of classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpo.export.analysis.folding import Folding

Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for N examples. Each field is `(N,)`.

    labels          the true class
    predicted       the most probable class, the first of several
    confidence      probability of the predicted class
    true_class      probability of the true class
    square_error    sum over the classes of (probability - truth)^2, 0 to 2
    folded          the most probable folded class; None if the classes have no folding
    """

    labels: Indices
    predicted: Indices
    confidence: Numbers
    true_class: Numbers
    square_error: Numbers
    folded: Indices | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, labels: Indices, probabilities: Numbers, folding: Folding | None = None) -> "Predictions":
        """Return the predictions of probabilities `(N, classes)`."""
        rows = np.arange(len(labels))
        predicted = probabilities.argmax(axis=1)
        true_class = probabilities[rows, labels]
        squares = np.einsum("nc,nc->n", probabilities, probabilities)
        return cls(
            labels,
            predicted,
            confidence=probabilities[rows, predicted],
            true_class=true_class,
            square_error=squares - 2 * true_class + 1,
            folded=None if folding is None else folding.most_probable(probabilities),
        )

    @classmethod
    def join(cls, parts: "Sequence[Predictions]") -> "Predictions":
        """Return the predictions for the examples of all parts, in order. There is at least one part."""
        folded = [part.folded for part in parts if part.folded is not None]
        return cls(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.confidence for part in parts]),
            np.concatenate([part.true_class for part in parts]),
            np.concatenate([part.square_error for part in parts]),
            np.concatenate(folded) if folded else None,
        )

    def confusion(self, classes: int) -> Indices:
        """Return the counts `(classes, classes)`: row true, column predicted."""
        cells = self.labels * classes + self.predicted
        return np.bincount(cells, minlength=classes**2).reshape(classes, classes)
