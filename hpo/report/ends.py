"""The values that search trials end with, or are predicted to end with."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import TrialState

from hpo.report.study_data import StudyData
from hpo.search.effective_lr import effective_lr
from hpo.search.learning_curves import log_losses, predict_final_losses
from hpo.search.scales import Curve, scale_of
from hpo.study.baseline import DEVIATIONS
from hpo.study.history import TrialHistory
from hpo.values.objective import Objective


@dataclass(frozen=True, slots=True)
class End:
    """The end of a search trial.

    `value` is the objective after the last epoch of the budget, with a 95% interval from `low` to `high`.
    `is_actual`: the trial has trained to its end, so both are equal to the value. `log_loss` is what curve
    models and importances work with.
    """

    trial: TrialHistory
    value: float
    low: float
    high: float
    log_loss: float
    is_actual: bool


def curve_of(trial: TrialHistory, objective: Objective) -> dict[int, float]:
    """Return the costs of a trial by epoch."""
    return {
        epoch.epoch: objective.cost(epoch.metrics[objective.key])
        for epoch in trial.curve
        if objective.key in epoch.metrics
    }


def ends(data: StudyData, known_epochs: int | None = None) -> list[End]:
    """Return the ends of all search trials that have trained an epoch and have not failed.

    `known_epochs`: of each trial, the prediction knows that number of epochs at most. All ends are then
    predictions.
    """
    objective, spec = data.objective, data.study.spec
    trials = [
        (trial, curve)
        for trial in data.trials("search")
        if trial.row.state != TrialState.FAIL
        and trial.row.point in spec.space
        and (curve := _known(curve_of(trial, objective), known_epochs))
    ]
    if not trials:
        return []
    curves = [curve for _, curve in trials]
    scale = scale_of(objective, [curve_of(trial, objective) for trial in data.trials("search")])
    logs = [log_losses({epoch: scale(cost) for epoch, cost in curve.items()}) for curve in curves]
    usable = [index for index, log in enumerate(logs) if len(log)]
    if not usable:
        return []
    rates = [effective_lr(spec.space, trials[index][0].row.point) for index in usable]
    losses, errors = predict_final_losses([logs[index] for index in usable], rates, spec.search.epochs)
    back = _value_of(objective, scale, curves)
    result = []
    for index, loss, error in zip(usable, losses.tolist(), errors.tolist(), strict=True):
        trial, _ = trials[index]
        is_actual = known_epochs is None and trial.row.state == TrialState.COMPLETE
        if is_actual and trial.row.value is not None:
            loss = float(np.log(max(scale(objective.cost(trial.row.value)), 1e-12)))
            value = trial.row.value
            result.append(End(trial, value, value, value, loss, True))
        else:
            bounds = sorted(back(loss + sign * DEVIATIONS * error) for sign in (-1, 1))
            result.append(End(trial, back(loss), bounds[0], bounds[1], loss, False))
    return result


def _known(curve: Curve, epochs: int | None) -> dict[int, float]:
    return {epoch: cost for epoch, cost in curve.items() if epochs is None or epoch <= epochs}


def _value_of(
    objective: Objective, scale: Callable[[float], float], curves: Sequence[Mapping[int, float]]
) -> Callable[[float], float]:
    """Return the inverse of a scale: the value of a log loss.

    Where the logarithm of the loss is linear in the cost, two costs give the line.
    """
    if objective.values != "any":
        return lambda loss: objective.value(math.exp(loss))
    costs = sorted({cost for curve in curves for cost in curve.values() if math.isfinite(cost)})
    low, high = (costs[len(costs) // 4], costs[3 * len(costs) // 4]) if costs else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    first, second = (math.log(scale(cost)) for cost in (low, high))
    slope = (high - low) / (second - first) if second != first else 1.0
    return lambda loss: objective.value(low + (loss - first) * slope)
