"""Metrics that functions yield."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from hpo.functions.measured import MetricsError, parse_metrics


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0.5, 0.5),
        (3, 3.0),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.array(0.5), 0.5),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (torch.tensor(3), 3.0),
        pytest.param(10**400, math.inf, id="huge"),
        pytest.param(-(10**400), -math.inf, id="negative and huge"),
    ],
)
def test_number_is_the_objective(value: object, number: float) -> None:
    assert parse_metrics(value, "loss") == {"loss": number}
    assert parse_metrics({"val/loss": value, "b": 1}, "val/loss") == {"val/loss": number, "b": 1.0}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.5", r"^str is neither a number nor a dict of metrics such as {'loss': 0.5}$"),
        (None, "^NoneType is neither"),
        (True, "^bool is neither"),
        (np.ones(2), "^numpy.ndarray is neither"),
        (torch.ones(1), "^torch.Tensor is neither"),
        (Decimal(1), "^decimal.Decimal is neither"),
        ((0.5, 0.6), "^tuple is neither"),
        ({"loss": "0.5"}, "^the metric 'loss' is str and no number$"),
        ({"loss": 1j}, "^the metric 'loss' is complex and no number$"),
        (
            {"accuracy": 1, "b": 2},
            r"^the metric 'loss' \(objective.metric\) is missing; the metrics are: 'accuracy', 'b'$",
        ),
        ({}, "is missing; the metrics are: none$"),
        ({"loss": 1, "": 2}, "^'' is no name of a metric; a name is a letter or '_', then"),
        ({"loss": 1, "my loss": 2}, "^'my loss' is no name"),
        ({"loss": 1, 3: 2}, "^3 is no name"),
        ({"loss": 1, "x" * 65: 2}, "is no name"),
    ],
)
def test_what_are_no_metrics_is_said_in_one_line(value: object, message: str) -> None:
    with pytest.raises(MetricsError, match=message):
        parse_metrics(value, "loss")
