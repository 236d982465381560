"""The result of one epoch of one trial."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class EpochResult:
    """The result of one epoch for one member of a pack.

    `epoch` counts from 1 over all phases of the budget, `phase` from 0. Losses are means per example,
    accuracy is a share. `seconds` and `evaluation_seconds` are the member's share of the device time that the
    pack took to train and to evaluate. Evaluation that overlaps with steps of the next epoch counts as
    training. `kept_epoch` is the epoch whose weights are the result so far. `status`: the member trains on,
    has used up the budget, or has a loss that is not finite.
    """

    member: int
    epoch: int
    phase: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    evaluation_seconds: float
    status: Literal["training", "finished", "diverged"]
    kept_epoch: int
