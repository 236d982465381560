"""The objective of a study: the metric that its trials are ranked by, and its direction."""

import math
from collections.abc import Collection, Iterable, Mapping
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
    VALIDATION_MAE,
    VALIDATION_MAE_ERROR,
    VALIDATION_R2,
    VALIDATION_R2_ERROR,
    VALIDATION_RMSE,
    VALIDATION_RMSE_ERROR,
    Metrics,
    validation_key,
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

    @property
    def worst(self) -> float:
        """Return the value that is worse than any that can be measured, an infinity."""
        return -math.inf if self.is_maximised else math.inf

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

    def show_gain(self, gain: float, half_width: float | None) -> str:
        """Return a difference of values with the half-width of its 95% interval, None if it is unknown."""
        scale, unit = (100, " percentage points") if self.values == "share" else (1, "")
        form = {"share": ".2f", "positive": ".4f", "any": ".6g"}[self.values]
        if half_width is None:
            return f"{gain * scale:{form}}{unit}, with an unknown error"
        return f"{gain * scale:{form}} ± {half_width * scale:{form}}{unit}"

    def others(self, recorded: Iterable[Metrics]) -> list["Objective"]:
        """Return the other metrics to show beside this one: of a network, those of the validation part.

        Nothing recorded: those of classes. Of a metric that hpo does not know, the direction has no meaning.
        """
        names = dict.fromkeys(name for metrics in recorded for name in metrics)
        if self.key == validation_key(self.name):
            metrics = metrics_among(names) if names else [OBJECTIVES[name] for name in OF_CLASSES]
            return [metric for metric in metrics if metric.key != self.key]
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
        Objective("rmse", "minimize", VALIDATION_RMSE, "positive", VALIDATION_RMSE_ERROR),
        Objective("mae", "minimize", VALIDATION_MAE, "positive", VALIDATION_MAE_ERROR),
        Objective("r2", "maximize", VALIDATION_R2, "any", VALIDATION_R2_ERROR),
    )
}
"""The metrics of the built-in training that a study may have as its objective, by name. The first is the
default. `accuracy`, `macro_f1` and `balanced_accuracy` are of classes, `rmse`, `mae` and `r2` of numbers."""

OF_CLASSES = ("loss", "accuracy", "macro_f1", "balanced_accuracy")
"""The metrics of classes, by name."""

_ERROR_KEYS = frozenset(objective.error_key for objective in OBJECTIVES.values())


def metrics_among(keys: Collection[str]) -> list[Objective]:
    """Return the metrics of the validation part among the keys of an epoch, those of hpo first.

    Standard errors are left out. A user's own metric has no known direction, and gets any.
    """
    known = [metric for metric in OBJECTIVES.values() if metric.key in keys]
    prefix = validation_key("")
    others = (key for key in keys if key.startswith(prefix) and key not in _ERROR_KEYS)
    names = [key.removeprefix(prefix) for key in others]
    return [*known, *(own_metric(name, "minimize") for name in names if name not in OBJECTIVES)]


def own_metric(name: str, direction: Direction) -> Objective:
    """Return the metric of this name that a user's own function of outputs and targets computes."""
    return Objective(name, direction, validation_key(name))
