"""The predictions of an exported model on the test part, from which pictures and tables of errors follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model of classes predicts for N labelled test images or examples.

    labels          `(N,)` int64, in the order of the test part
    probabilities   `(N, classes)` float32, those that the test metrics follow from
    classes         the names of the classes, in the order of the columns
    """

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    classes: Sequence[str]
