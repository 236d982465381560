"""Classification metrics as values. Reading them needs no torch; `hpo.export.scoring` computes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python


@dataclass(frozen=True, slots=True)
class Normalization:
    """Mean and standard deviation of pixels / 255, one for each channel."""

    mean: Sequence[float]
    std: Sequence[float]


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Metrics of one class.

    The rates are 0 to 1, and 0 where no example was predicted as, or belongs to, the class. `support`: number
    of examples of the class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics over `n` examples. All but the loss are 0 to 1.

    accuracy_interval   95% Wilson score interval of the accuracy (Wilson 1927)
    loss                mean negative log likelihood in nats per example
    weighted_*          mean over the classes, weighted by support; weighted_recall is the accuracy
    macro_*             unweighted mean over all classes, including classes without examples
    confusion           `(classes, classes)` counts: row true, column predicted
    """

    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    loss: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as plain values, as `json.loads` would."""
        plain: dict[str, Any] = to_jsonable_python(self)
        return plain
