"""The metrics that a training function yields or returns."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from hpo.values.epoch import METRIC_NAME


class MetricsError(Exception):
    """What a function yielded or returned are no metrics. The message is one line."""


def parse_metrics(value: object, objective: str) -> dict[str, float]:
    """Return metrics by name. A single number is the metric `objective`.

    Raises `MetricsError` for anything else, for a metric that is no number, and without the objective.
    """
    if not isinstance(value, Mapping):
        number = _number(value)
        if number is None:
            raise MetricsError(
                f"{_type(value)} is neither a number nor a dict of metrics such as {{{objective!r}: 0.5}}"
            )
        return {objective: number}
    metrics = {}
    for name, measured in value.items():
        if not isinstance(name, str) or not METRIC_NAME.fullmatch(name):
            rule = "a letter or '_', then at most 63 of a-z, A-Z, 0-9, '_', '.', '/', '-'"
            raise MetricsError(f"{name!r} is no name of a metric; a name is {rule}")
        number = _number(measured)
        if number is None:
            raise MetricsError(f"the metric {name!r} is {_type(measured)} and no number")
        metrics[name] = number
    if objective not in metrics:
        names = ", ".join(map(repr, metrics)) or "none"
        raise MetricsError(
            f"the metric {objective!r} (objective.metric) is missing; the metrics are: {names}"
        )
    return metrics


def _number(value: Any) -> float | None:
    """Return a number of Python, numpy or torch as a float, None for anything else."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    number: Any = value
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _type(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
