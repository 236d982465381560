"""A setting of the training loss that only tests have: a penalty on large logits."""

from __future__ import annotations

from typing import Any, cast

import pytest
from torch import Tensor

from hpo.training.loss import TERMS
from hpo.values.parameters import PARAMETERS, Parameter, Role

NAME = "logit_penalty"


def penalty(logits: Tensor, _labels: Tensor, value: Tensor, _weights: Tensor | None = None) -> Tensor:
    return value * logits.square().mean()


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the setting for one test, as its two lines in hpo would."""
    parameter = Parameter(
        "number", Role.LOSS, 0.0, "a number of at least 0", lambda value: value >= 0, "Penalty."
    )
    monkeypatch.setitem(cast(dict[str, Any], PARAMETERS), NAME, parameter)
    monkeypatch.setitem(cast(dict[str, Any], TERMS), NAME, penalty)
