"""What one epoch of one trial gave."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class EpochResult:
    """Of one member of a pack.

    `epoch` counts from 1 over all phases of the budget, `phase` from 0. Losses are means per example,
    accuracy is a share. `seconds` and `evaluation_seconds` are the member's share of the device time that
    the pack took to train and to evaluate; while steps of the next epoch are launched beside the evaluation,
    that is training. `kept_epoch`: whose weights count so far. `status`: whether it goes on, has used up its
    budget, or has a loss that is no longer finite.
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
