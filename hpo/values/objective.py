"""The objective of a study: the metric that its trials are ranked by, and its direction."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from hpo.values.epoch import (
    VALIDATION_ACCURACY,
    VALIDATION_ACCURACY_ERROR,
    VALIDATION_BALANCED_ACCURACY,
    VALIDATION_BALANCED_ACCURACY_ERROR,
    VALIDATION_LOSS,
    VALIDATION_LOSS_ERROR,
    VALIDATION_MACRO_F1,
    Metrics,
)

Direction = Literal["minimize", "maximize"]

Values = Literal["positive", "share", "any"]
"""The values of a metric: positive numbers as of a loss, numbers from 0 to 1 as of an accuracy, or any."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric and its direction.

    `name`: in the study file. `key`: among the metrics of an epoch. `error_key`: the metric that is its
    standard error over the validation images, None if none is measured.

    Optuna's tables and everything that people see have the metric itself. Searches compare *costs*: lower is
    better, whatever the direction.
    """

    name: str
    direction: Direction
    key: str
    values: Values = "any"
    error_key: str | None = None

    @property
    def is_maximised(self) -> bool:
        """Return whether higher values are better."""
        return self.direction == "maximize"

    @property
    def title(self) -> str:
        """Return the name in words. The name of a user's metric stays as it is."""
        if self not in OBJECTIVES.values():
            return self.name
        return self.name.replace("_", " ").replace("f1", "F1")

    def may_be(self, value: float) -> bool:
        """Return whether the metric can have this value."""
        return self.values != "share" or 0 <= value <= 1

    def cost(self, value: float) -> float:
        """Return the cost of a value: the error of a share, the negative of another maximised metric."""
        if not self.is_maximised:
            return value
        return 1 - value if self.values == "share" else -value

    def value(self, cost: float) -> float:
        """Return the value with this cost, but for rounding."""
        return self.cost(cost) if self.is_maximised else cost

    def of(self, metrics: Metrics) -> float:
        """Return the value among the metrics of an epoch."""
        return metrics[self.key]

    def cost_of(self, metrics: Metrics) -> float:
        """Return the cost of an epoch with these metrics."""
        return self.cost(metrics[self.key])

    def error_of(self, metrics: Metrics) -> float | None:
        """Return the standard error of the value. None if it was not measured."""
        return None if self.error_key is None else metrics.get(self.error_key)

    def show(self, value: float) -> str:
        """Return a value for people: a share as a percentage, a metric of any size with six digits."""
        if self.values == "any":
            return f"{value:.6g}"
        return f"{value:.2%}" if self.values == "share" else f"{value:.4f}"

    def others(self, recorded: Iterable[Metrics]) -> list["Objective"]:
        """Return the other metrics to show beside this one: those of the built-in training, or all recorded.

        Of a metric that hpo does not know, the direction has no meaning.
        """
        if self in OBJECTIVES.values():
            return [metric for metric in OBJECTIVES.values() if metric != self]
        names = dict.fromkeys(name for metrics in recorded for name in metrics)
        return [Objective(name, "minimize", key=name) for name in names if name != self.key]


LOSS = Objective("loss", "minimize", VALIDATION_LOSS, "positive", VALIDATION_LOSS_ERROR)

OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective
    for objective in (
        LOSS,
        Objective("accuracy", "maximize", VALIDATION_ACCURACY, "share", VALIDATION_ACCURACY_ERROR),
        # The F1 score has no simple standard error. That of the mean recall stands for it.
        Objective("macro_f1", "maximize", VALIDATION_MACRO_F1, "share", VALIDATION_BALANCED_ACCURACY_ERROR),
        Objective(
            "balanced_accuracy",
            "maximize",
            VALIDATION_BALANCED_ACCURACY,
            "share",
            VALIDATION_BALANCED_ACCURACY_ERROR,
        ),
    )
}
"""The metrics of the built-in training that a study may have as its objective, by name. The first is the
default."""
