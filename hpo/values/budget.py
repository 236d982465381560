"""What one trial may spend: which split it sees, and the phases it is trained through.

Pure values, shared by the study file (which sets them) and the trainer (which spends them).
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random affine maps, drawn per image.

    `rotation` and `shear` are the largest angles in degrees, `shift` the largest translation as a share of
    the side, `scale` the smallest and largest factor.
    """

    rotation: float = 0.0
    shift: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of epochs with one optimizer.

    `sgd` uses the trial's lr, momentum and weight decay; `adam` its own `lr` and nothing of the trial's.
    `patience`: epochs without a new best validation loss after which the phase ends; None means never.
    `clip`: the largest gradient norm of a member; None means no clipping.
    """

    optimizer: Literal["sgd", "adam"]
    epochs: int
    patience: int | None = None
    clip: float | None = None
    augmentation: Augmentation | None = None
    lr: float = 1e-3


@dataclass(frozen=True, slots=True)
class Budget:
    """The phases of one trial on one split.

    `mini` trains on mini-train and validates on mini-validation; `full` trains on the 90% and validates on
    the whole mini part. `keep` says which weights, and so which validation loss, count as the trial's:
    those of the last epoch or those of the best one.
    """

    split: Literal["mini", "full"]
    phases: tuple[Phase, ...]
    keep: Literal["last", "best"]

    @property
    def epochs(self) -> int:
        """The most epochs a trial can take under this budget."""
        return sum(phase.epochs for phase in self.phases)
