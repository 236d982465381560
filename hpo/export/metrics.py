"""Test metrics as values. Reading them needs no torch; `hpo.export.scoring` computes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_jsonable_python


@dataclass(frozen=True, slots=True)
class Normalization:
    """Mean and standard deviation of the inputs, or of pixels / 255, one for each channel or feature."""

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
    """Metrics of classes over `n` examples. All but the loss and the user's own are 0 to 1.

    accuracy_interval   95% Wilson score interval of the accuracy (Wilson 1927)
    loss                mean loss per example: the negative log likelihood in nats, or the user's own loss
    weighted_*          mean over the classes, weighted by support; weighted_recall is the accuracy
    macro_*             unweighted mean over all classes, including classes without examples
    confusion           `(classes, classes)` counts: row true, column predicted
    own                 the user's own metrics by name; None for a number that is not finite
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
    own: Mapping[str, float | None] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the accuracy in words, and the user's own metrics."""
        low, high = self.accuracy_interval
        interval = f"95% interval {low:.2%} to {high:.2%}"
        return f"accuracy {self.accuracy:.2%} ({interval}, n = {self.n:,}){_own(self.own)}"

    def details(self) -> list[str]:
        """Return the other metrics in words, a line each."""
        rows = (
            ("weighted", self.weighted_precision, self.weighted_recall, self.weighted_f1),
            ("macro", self.macro_precision, self.macro_recall, self.macro_f1),
        )
        return [
            f"loss {self.loss:.4f}",
            *(
                f"{mean} mean: precision {precision:.2%}, recall {recall:.2%}, F1 {f1:.2%}"
                for mean, precision, recall, f1 in rows
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as plain values, as `json.loads` would."""
        plain: dict[str, Any] = to_jsonable_python(self)
        return plain


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """Metrics of numbers over `n` examples.

    loss      mean loss per example: the mean squared error, or the user's own loss
    rmse      root of the mean squared error
    mae       mean absolute error
    r2        coefficient of determination; its mean if a target has several numbers
    *_error   the standard errors, as the test examples are a sample
    own       the user's own metrics by name; None for a number that is not finite
    """

    n: int
    loss: float
    rmse: float
    mae: float
    r2: float
    loss_error: float
    rmse_error: float
    mae_error: float
    r2_error: float
    own: Mapping[str, float | None] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the metrics in words."""
        figures = ", ".join(
            f"{title} {value:.4f} ± {error:.2g}"
            for title, value, error in (
                ("RMSE", self.rmse, self.rmse_error),
                ("MAE", self.mae, self.mae_error),
                ("R2", self.r2, self.r2_error),
            )
        )
        return f"{figures} (n = {self.n:,}){_own(self.own)}"

    def details(self) -> list[str]:
        """Return the other metrics in words, a line each."""
        return [f"loss {self.loss:.4f} ± {self.loss_error:.2g}"]

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as plain values, as `json.loads` would."""
        plain: dict[str, Any] = to_jsonable_python(self)
        return plain


AnyMetrics = Metrics | RegressionMetrics


def _own(metrics: Mapping[str, float | None]) -> str:
    return "".join(f", {name} {'-' if value is None else f'{value:.4f}'}" for name, value in metrics.items())
