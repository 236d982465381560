"""Outcomes of trials that nobody trained."""

from typing import Any

from optuna.trial import TrialState

from hpo.store.results import TrialOutcome
from hpo.values.epoch import VALIDATION_ACCURACY
from hpo.values.space import Point


def trained(
    value: float | None, state: TrialState = TrialState.COMPLETE, accuracy: float = 0.5, **fields: Any
) -> TrialOutcome:
    """Return the outcome of a trial as if it had been trained. `fields`: further ones of `TrialOutcome`."""
    return TrialOutcome(state, value, metrics={VALIDATION_ACCURACY: accuracy}, **fields)


def loss(point: Point) -> float:
    """Return the loss of a trial with these parameters. The largest learning rate has the least loss."""
    lr, momentum, weight_decay = (float(point[name]) for name in ("lr", "momentum", "weight_decay"))
    return round(1 / (1 + lr) + momentum / 10 + weight_decay, 9)
