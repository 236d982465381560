"""What the trials of a search have come to, for samplers that learn from trials that have ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from hpo.search.final_losses import final_losses
from hpo.search.learning_curves import log_losses
from hpo.search.samplers.base import Observation
from hpo.values.space import Point, SearchSpace

PRUNED_COUNT: Any = Field(
    default=True,
    description="Whether pruned and paused trials count, with the loss that their curve predicts for the "
    "last epoch.",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial that has ended or is paused; `loss` is the log loss of its last epoch, or the predicted one."""

    point: Point
    loss: float
    has_failed: bool = False


def outcomes(space: SearchSpace, history: Iterable[Observation], with_pruned: bool) -> list[Outcome]:
    """Return the outcomes of the trials in the order of the history.

    `with_pruned`: whether pruned and paused trials count. A failed trial has the largest loss of all others.
    A trial without a finite first epoch has no outcome, and without any other a failed trial has none either.
    """
    trials = [trial for trial in history if trial.has_failed or _counts(trial, with_pruned)]
    if all(trial.has_failed for trial in trials):
        return []
    losses = final_losses(space, trials)[0].tolist()
    return [Outcome(trial.point, loss, trial.has_failed) for trial, loss in zip(trials, losses, strict=True)]


def _counts(trial: Observation, with_pruned: bool) -> bool:
    states = ("COMPLETE", "PRUNED") if with_pruned else ("COMPLETE",)
    return trial.state.name in states and log_losses(trial.curve or {}).size > 0
